//! One simulator, one workspace, one key, and a client that hides nothing.

use std::time::Duration;

use ohallo_sim::{Behaviour, Config, Key, NewChannel, Sim};
use reqwest::{Client, Method, RequestBuilder, redirect};
use serde_json::{Value, json};

pub const WORKSPACE: &str = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";
pub const CHANNEL: &str = "d4e5f6a7-b8c9-0123-4567-890abcdef012";
pub const SECRET: &str = "sf_test_v1_a3Bx9kLmP2qR7wYz4nDfGhJkQpStUvWx";
pub const SOON: Duration = Duration::from_secs(10);

pub struct Harness {
    pub sim: Sim,
    pub http: Client,
}

/// What came back.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub body: Value,
}

impl Harness {
    /// With the channel of the documentation's example.
    pub async fn new() -> Self {
        Harness::with(Behaviour::default()).await
    }

    pub async fn with(behaviour: Behaviour) -> Self {
        let sim = Sim::start(Config { behaviour, admin: true, ..Config::default() }).await.unwrap();
        sim.add_workspace("nordic-parts", WORKSPACE, "Nordic Parts");
        sim.add_key(Key::new(SECRET, "nordic-parts"));
        let example = NewChannel::new(WORKSPACE, "email", "Support Email").config(json!({
            "inboundAddress": "support@nordic-parts.dk", "fromName": "Nordic Parts Support"
        }));
        sim.insert_channel(NewChannel { id: Some(CHANNEL.to_owned()), ..example });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap();
        Harness { sim, http }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.sim.url())).bearer_auth(SECRET)
    }

    pub async fn get(&self, path: &str) -> Got {
        Got::of(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Got {
        Got::of(self.request(Method::DELETE, path)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Got {
        Got::of(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Got {
        Got::of(self.request(Method::POST, path).json(&body)).await
    }

    /// A POST without a body.
    pub async fn call(&self, path: &str) -> Got {
        Got::of(self.request(Method::POST, path)).await
    }

    pub async fn create(&self, name: &str) -> Got {
        let body = json!({"channelType": "email", "displayName": name});
        self.post(&format!("/api/workspaces/{WORKSPACE}/channels"), body).await
    }
}

impl Got {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.timeout(SOON).send().await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.bytes().await.unwrap();
        Got { status, body: serde_json::from_slice(&bytes).unwrap() }
    }

    /// oHallo's error shape and nothing else.
    pub fn refused(&self, status: u16) {
        assert_eq!(self.status, status, "{:?}", self.body);
        let fields = self.body.as_object().unwrap();
        assert!(fields.len() == 1 && fields["error"].is_string(), "{:?}", self.body);
    }

    pub fn done(&self, status: u16) -> &Value {
        assert_eq!(self.status, status, "{:?}", self.body);
        &self.body
    }
}

pub fn path(id: &str) -> String {
    format!("/api/channels/{id}")
}
