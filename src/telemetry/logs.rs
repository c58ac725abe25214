//! Logs: one line for each event, to stderr. A filter keeps credentials in libraries' events out. Spans belong
//! to the traces only.

use std::io::{self, Write};
use std::panic::PanicHookInfo;

use reqwest::Url;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterExt, FilterFn, LevelFilter as Level, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::telemetry::traces::{self, Traces, TracesError};

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object on each line.
    Json,
    /// Plain text for a user at a terminal.
    Human,
}

/// Why logging can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` is not a valid filter.
    #[error("RUST_LOG is not a log filter ({0}); write info, debug or ohallo_operator=debug")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber is already installed.
    #[error("logging was set up twice in this process")]
    Twice(#[from] TryInitError),
    #[error(transparent)]
    Traces(#[from] TracesError),
}

/// Keeps each event on one line: it escapes characters that end a line, hide text or steer a terminal.
#[derive(Clone, Copy)]
struct OneLine<W>(W);

/// Logs to stderr in the given format, filtered by `RUST_LOG` (default `info`), including panics. Sends traces
/// to the collector, if there is one, until the returned value is dropped.
pub fn init(format: LogFormat, collector: Option<&Url>) -> Result<Option<Traces>, TelemetryError> {
    let user = std::env::var("RUST_LOG").unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer().with_writer(OneLine(io::stderr)).with_ansi(false);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        LogFormat::Human => lines.boxed(),
    };
    let (spans, traces) = collector.map(traces::layer).transpose()?.unzip();
    let layers = spans.into_iter().chain([lines.with_filter(filter(&user)?).boxed()]);
    tracing_subscriber::registry().with(layers.collect::<Vec<_>>()).try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(traces)
}

/// The user's filter (empty means `info`), and a separate cap that no directive can lift.
///
/// The cap is separate, because appended directives would not suffice: the longer target wins, so
/// `kube_client::client=trace` would beat an appended `kube_client=error`.
pub fn filter<S>(user: &str) -> Result<impl Filter<S> + use<S>, tracing_subscriber::filter::ParseError>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let user = if user.trim().is_empty() { "info" } else { user };
    let capped: FilterFn = filter_fn(allowed as fn(&Metadata<'_>) -> bool);
    Ok(EnvFilter::try_new(user)?.and(capped.with_max_level_hint(Level::TRACE)))
}

fn allowed(it: &Metadata<'_>) -> bool {
    it.is_event() && *it.level() <= cap(it.target())
}

/// kube_client logs whole bodies, Secrets included, at WARN when it can't decode one; HTTP and TLS libraries
/// log headers and frames below INFO. kube_client's request builder is off, because the reconcile already logs
/// each failed request.
fn cap(target: &str) -> LevelFilter {
    match target.split("::").next() {
        _ if target == "kube_client::client::builder" => LevelFilter::OFF,
        Some("ohallo_operator") => LevelFilter::TRACE,
        Some("kube_runtime") => LevelFilter::DEBUG,
        Some("kube_client") => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

/// Logs only the source line: the payload may quote the object.
fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
    tracing::error!(place, "a task panicked because of a bug; please report the value of place");
}

// === impl OneLine ===

impl<'a, W, M> MakeWriter<'a> for OneLine<M>
where
    M: MakeWriter<'a, Writer = W>,
    W: Write,
{
    type Writer = OneLine<W>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    /// The subscriber passes a whole event, including its line end, in one call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut out = String::with_capacity(line.len() + 1);
        for c in line.chars() {
            if c.is_control() || steers_text(c) {
                // Also valid inside a JSON string, because all of these are below U+10000.
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            } else {
                out.push(c);
            }
        }
        out.push('\n');
        self.0.write_all(out.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Line and paragraph separators, and marks that change the text direction.
fn steers_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
pub mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the closure logs, with this user's filter.
    pub fn logged(user: &str, json: bool, what: impl FnOnce()) -> String {
        let captured = Captured::default();
        let target = captured.clone();
        let lines =
            tracing_subscriber::fmt::layer().with_writer(OneLine(move || target.clone())).with_ansi(false);
        let lines: Box<dyn Layer<Registry> + Send + Sync> =
            if json { lines.json().flatten_event(true).boxed() } else { lines.boxed() };
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter(user).unwrap()));
        tracing::subscriber::with_default(subscriber, what);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn log_from_every_target() {
        tracing::error!(target: "kube_client::client", "kube error");
        tracing::error!(target: "kube_client::client::builder", "kube request");
        tracing::warn!(target: "kube_client::client", "kube body");
        tracing::trace!(target: "kube_client::client", "kube body");
        tracing::debug!(target: "hyper_util::client::legacy", "wire bytes");
        tracing::trace!(target: "h2::codec", "wire bytes");
        tracing::debug!(target: "reqwest::connect", "wire bytes");
        tracing::debug!(target: "rustls::client::hs", "wire bytes");
        tracing::trace!(target: "tower::buffer", "wire bytes");
        tracing::info!(target: "hyper", "hyper info");
        tracing::trace!(target: "ohallo_operator::channel", "our trace");
    }

    #[test]
    fn no_user_directive_lets_a_library_log_bodies_or_headers() {
        for user in [
            "trace",
            "kube_client=trace,hyper=trace,h2=trace,reqwest=trace,rustls=trace,tower=trace",
            "kube_client::client=trace,hyper_util::client::legacy=trace,h2::codec=trace,rustls::client=trace",
            "[{message}]=trace",
            "trace,[anything]=trace",
        ] {
            let text = logged(user, false, || {
                let _inside = tracing::error_span!(target: "ohallo_operator", "anything").entered();
                log_from_every_target();
            });
            let hidden = ["kube body", "kube request", "wire bytes"];
            assert!(!hidden.iter().any(|hidden| text.contains(hidden)), "{user}: {text}");
        }
        let text = logged("trace", false, log_from_every_target);
        assert!(
            ["kube error", "hyper info", "our trace"].iter().all(|wanted| text.contains(wanted)),
            "{text}"
        );
    }

    #[test]
    fn the_default_filter_is_info() {
        let text = logged("", false, || {
            tracing::info!(target: "ohallo_operator", "shown");
            tracing::debug!(target: "ohallo_operator", "hidden");
        });
        assert!(text.contains("shown") && !text.contains("hidden"), "{text}");
    }

    #[test]
    fn a_bad_filter_is_one_sentence() {
        let Err(error) = filter::<Registry>("ohallo_operator=loud") else { panic!("accepted") };
        let text = TelemetryError::from(error).to_string();
        assert!(text.starts_with("RUST_LOG is not a log filter") && !text.contains('\n'), "{text}");
    }

    #[test]
    fn one_event_is_one_line_that_can_t_steer_a_terminal() {
        let hostile = "a\nb\r\u{1b}[31mc\u{9b}d\u{7f}e\u{202e}f\u{2028}g";
        for json in [false, true] {
            let text = logged(
                "info",
                json,
                || tracing::info!(target: "ohallo_operator", field = %hostile, "{hostile}"),
            );
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(!text.trim_end().chars().any(|c| c.is_control() || steers_text(c)), "{text:?}");
            if json {
                let event: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert!(event["field"].as_str().unwrap().starts_with("a\nb\r"), "{text}");
            }
        }
    }
}
