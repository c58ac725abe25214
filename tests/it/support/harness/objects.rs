//! What a user does with objects.

use super::*;

impl Harness {
    /// kubectl in this namespace, as an administrator.
    pub fn kubectl(&self, args: &[&str], stdin: Option<&str>) -> Output {
        let all: Vec<_> = ["--namespace", &self.namespace].into_iter().chain(args.iter().copied()).collect();
        kubectl_as(self.plane, User::Admin, &all, stdin)
    }

    /// `kubectl apply`, which must succeed.
    pub fn apply(&self, manifest: &Value) {
        let output = self.kubectl(&["apply", "-f", "-"], Some(&manifest.to_string()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// kubectl in any namespace, as an administrator; it must succeed.
    pub fn kubectl_ok(&self, args: &[&str], stdin: &str) {
        let output = kubectl_as(self.plane, User::Admin, args, Some(stdin));
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Applies objects in another namespace.
    pub fn apply_in(&self, namespace: &str, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        self.kubectl_ok(&["-n", namespace, "apply", "-f", "-"], &list);
    }

    /// `kubectl apply`, which must be rejected; returns its output.
    pub fn refused(&self, manifest: &Value) -> String {
        let output = self.kubectl(&["apply", "-f", "-"], Some(&manifest.to_string()));
        let reported = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "it was accepted: {manifest}");
        reported
    }

    pub fn channels(&self) -> Api<Channel> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    /// What the Secrets of the namespace hold, by name and key.
    pub async fn secret_values(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let text = |value: k8s_openapi::ByteString| String::from_utf8_lossy(&value.0).into_owned();
        let all = self.secrets().list(&ListParams::default()).await.unwrap().items.into_iter();
        let values = |secret: Secret| {
            let data = secret.data.unwrap_or_default().into_iter();
            data.map(|(key, value)| (key, text(value))).collect()
        };
        all.map(|secret| (secret.name_any(), values(secret))).collect()
    }

    /// Writes a Secret.
    pub async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = values.iter().copied().collect();
        self.put_secret(json!({"metadata": {"name": name}, "stringData": data})).await;
    }

    pub(super) async fn key_secret(&self, name: &str, key: &str) {
        self.put_secret(json!({"metadata": {"name": name}, "stringData": {"apiKey": key}})).await;
    }

    /// Writes a Secret as it is given, replacing the one that is there. Its values must be found nowhere.
    pub async fn put_secret(&self, object: Value) {
        let mut object = object;
        object["apiVersion"] = "v1".into();
        object["kind"] = "Secret".into();
        let secret: Secret = serde_json::from_value(object.clone()).unwrap();
        secret.string_data.iter().flat_map(BTreeMap::values).for_each(canary::register);
        secret.data.iter().flat_map(BTreeMap::values).for_each(|value| canary::register(&value.0));
        let api = self.secrets();
        match api.create(&PostParams::default(), &secret).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let mut with_version = secret.clone();
                with_version.metadata.resource_version =
                    api.get(&secret.name_any()).await.unwrap().resource_version();
                api.replace(&secret.name_any(), &PostParams::default(), &with_version).await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Creates a Workspace that uses the key in this Secret.
    pub async fn workspace(&self, name: &str, secret: &str) {
        self.apply(&json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "Workspace", "metadata": {"name": name},
            "spec": {"workspaceId": WORKSPACE, "apiKeySecretRef": {"name": secret}},
        }));
    }

    /// A Channel manifest: a chat, with these fields of the spec beside or instead.
    pub fn manifest(&self, name: &str, spec: Value) -> Value {
        let mut whole = json!({"channelType": "chat", "displayName": format!("Channel {name}")});
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        json!({
            "apiVersion": "ohallo.eu/v1alpha1", "kind": "Channel",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": whole,
        })
    }

    /// Creates a Channel through the API.
    pub async fn create(&self, name: &str, spec: Value) -> Channel {
        let channel: Channel = serde_json::from_value(self.manifest(name, spec)).unwrap();
        self.channels().create(&PostParams::default(), &channel).await.unwrap()
    }

    /// Creates a Channel and waits until it is Ready.
    pub async fn ready(&self, name: &str, spec: Value) -> Channel {
        self.create(name, spec).await;
        self.reason(name, "Available").await
    }

    /// Merges into a Channel, as a user's edit.
    pub async fn edit(&self, name: &str, patch: Value) -> Channel {
        self.channels().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
    }

    pub async fn annotate(&self, name: &str, annotation: &str, value: &str) {
        self.edit(name, json!({"metadata": {"annotations": {annotation: value}}})).await;
    }

    /// The same on an object that may be deleted.
    pub async fn annotate_if_there(&self, name: &str, annotation: &str, value: &str) {
        self.edit_if_there(name, json!({"metadata": {"annotations": {annotation: value}}})).await;
    }

    /// Requests a reconcile of a Workspace.
    pub async fn ask_workspace(&self, name: &str, value: &str) {
        let api: Api<Workspace> = Api::namespaced(self.admin.clone(), &self.namespace);
        let patch = json!({"metadata": {"annotations": {"ohallo.eu/reconcile-requested-at": value}}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn edit_if_there(&self, name: &str, patch: Value) {
        match self.channels().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other.unwrap()),
        }
    }

    pub async fn get(&self, name: &str) -> Channel {
        self.channels().get(name).await.unwrap()
    }

    pub async fn delete(&self, name: &str) {
        self.channels().delete(name, &Default::default()).await.unwrap();
    }

    pub async fn delete_if_there(&self, name: &str) {
        match self.channels().delete(name, &Default::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other.unwrap()),
        }
    }
}
