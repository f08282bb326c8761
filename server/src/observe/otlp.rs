//! Traces for an OpenTelemetry collector: OTLP over HTTP, protobuf, without TLS. Behind the feature `otlp`.
//!
//! Owns the exporter and its thread. A request's spans are made after it was answered, from the times that its stopwatch has anyway; nothing
//! of this is on its way, and a request that is not sampled costs a comparison. The queue is bounded: what does not fit is lost, and
//! the exporter says so in the log. A collector that is away never slows a request.

mod client;

use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{self, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};

use super::log::Access;
use super::stages::{Spent, Stage};
use super::trace_context::{SpanId, TraceContext, TraceId};
use client::PlainClient;

/// Spans that may wait for the exporter.
const QUEUE_SPANS: usize = 8192;
/// Spans of one message.
const BATCH_SPANS: usize = 512;

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub struct TracesOptions {
    /// The whole address: `http://HOST:PORT/v1/traces`.
    pub endpoint: String,
    /// Of a million requests whose caller does not record them, so many are recorded. Those that the caller records always are.
    pub sampled_per_million: u32,
    /// The release.
    pub version: &'static str,
    /// Of connecting to the collector, and of each read and write there. Default to use: 5 s.
    pub timeout: Duration,
}

/// The exporter could not be made: the endpoint is no address.
#[derive(Debug, thiserror::Error)]
#[error("traces: {0}")]
pub struct TracesError(String);

/// Exports the spans of requests.
#[derive(Debug)]
pub struct Traces {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    sampled_per_million: u32,
}

impl Traces {
    /// Starts the exporter's thread. The collector need not be there.
    ///
    /// # Errors
    ///
    /// The endpoint is not of the form `http://HOST:PORT/PATH`.
    pub fn start(options: &TracesOptions) -> Result<Self, TracesError> {
        if !options.endpoint.starts_with("http://") {
            return Err(TracesError(format!("{}: only http:// endpoints", options.endpoint)));
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(PlainClient { timeout: options.timeout })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(options.endpoint.as_str())
            .with_timeout(options.timeout)
            .build()
            .map_err(|error| TracesError(error.to_string()))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS)
            .with_max_export_batch_size(BATCH_SPANS)
            .with_scheduled_delay(Duration::from_secs(1))
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let version = KeyValue::new("service.version", options.version);
        processor.set_resource(&Resource::builder_empty().with_service_name("tpcore").with_attribute(version).build());
        let scope = InstrumentationScope::builder("tpcore").with_version(options.version).build();
        Ok(Self { processor, scope, sampled_per_million: options.sampled_per_million })
    }

    /// One request was answered just now: its span and one for each stage, if it is sampled.
    pub fn request(&self, access: &Access<'_>) {
        if self.is_sampled(access.trace) {
            self.spans(access, Instant::now(), SystemTime::now())
                .into_iter()
                .for_each(|span| self.processor.on_end(span));
        }
    }

    /// Sends what waits, and ends the thread: at most the timeout. For the end of the process.
    pub fn shutdown(&self, timeout: Duration) {
        // What could not be sent is lost with the process; the exporter has said why.
        let _ = self.processor.shutdown_with_timeout(timeout);
    }

    /// By the caller's flag, or by the trace's own random bits, so that every server of a trace decides alike.
    fn is_sampled(&self, context: &TraceContext) -> bool {
        let [.., a, b, c, d] = context.trace.0;
        let drawn = (u64::from(u32::from_be_bytes([a, b, c, d])) * 1_000_000) >> 32;
        context.is_sampled || drawn < u64::from(self.sampled_per_million)
    }

    fn spans(&self, access: &Access<'_>, now: Instant, wall: SystemTime) -> Vec<SpanData> {
        let (context, watch) = (access.trace, access.watch);
        let at = |moment: Instant| wall.checked_sub(now.saturating_duration_since(moment)).unwrap_or(wall);
        let span = |name, id, parent, from, time| self.span(context.trace, name, id, parent, at(from), time);
        let mut request = span(access.route, context.span, context.parent, watch.started(), watch.total());
        request.span_kind = SpanKind::Server;
        request.parent_span_is_remote = context.parent.is_some();
        request.attributes = vec![
            KeyValue::new("http.route", access.route),
            KeyValue::new("http.response.status_code", i64::from(access.status)),
        ];
        if !access.outcome.is_empty() {
            request.attributes.push(KeyValue::new("tpcore.outcome", access.outcome.to_owned()));
        }
        if access.status >= 500 {
            request.status = Status::error(access.outcome.to_owned());
        }
        let mut spans = vec![request];
        for stage in Stage::ALL {
            if let Some(Spent { from, time }) = watch.spent(stage) {
                let child = TraceContext::of(None).span;
                spans.push(span(stage.name(), child, Some(context.span), from, time));
            }
        }
        spans
    }

    fn span(
        &self,
        trace: TraceId,
        name: &'static str,
        id: SpanId,
        parent: Option<SpanId>,
        from: SystemTime,
        time: Duration,
    ) -> SpanData {
        let of_span = |id: SpanId| trace::SpanId::from_bytes(id.0);
        let trace = trace::TraceId::from_bytes(trace.0);
        SpanData {
            span_context: SpanContext::new(trace, of_span(id), TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: parent.map_or(trace::SpanId::INVALID, of_span),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: from,
            end_time: from.checked_add(time).unwrap_or(from),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::observe::Stopwatch;

    fn traces(endpoint: &str, sampled_per_million: u32) -> Traces {
        let timeout = Duration::from_secs(20);
        let options = TracesOptions { endpoint: endpoint.to_owned(), sampled_per_million, version: "1.2.3", timeout };
        Traces::start(&options).expect("an address")
    }

    fn a_request(traces: &Traces, context: &TraceContext) {
        let start = Instant::now();
        let mut watch = Stopwatch::start(start);
        watch.lap(Stage::Gate, start + Duration::from_millis(1));
        watch.lap(Stage::Engine, start + Duration::from_millis(9));
        let (route, outcome) = ("POST /v1/transfers", "insufficient_funds");
        traces.request(&Access {
            route,
            status: 402,
            outcome,
            tenant: None,
            key_id: "",
            trace: context,
            watch: &watch,
        });
    }

    /// Takes one request and answers it: its head and its body.
    fn receive(listener: &TcpListener) -> (String, Vec<u8>) {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut bytes = Vec::new();
        loop {
            let mut part = [0; 4096];
            let read = stream.read(&mut part).expect("bytes");
            bytes.extend_from_slice(&part[..read]);
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(bytes[..end].to_vec()).expect("a head");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            let length: usize = length.parse().expect("a number");
            if bytes.len() == end + 4 + length {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("answered");
                return (head, bytes[end + 4..].to_vec());
            }
        }
    }

    fn has(bytes: &[u8], part: &[u8]) -> bool {
        bytes.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn a_sampled_request_reaches_the_collector_with_its_stages_and_its_callers_span() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
        let traces = traces(&endpoint, 0);
        let context = TraceContext::of(Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        a_request(&traces, &context);
        let receiver = std::thread::spawn(move || receive(&listener));
        traces.shutdown(Duration::from_secs(20));
        let (head, body) = receiver.join().expect("received");
        assert!(
            head.starts_with("POST /v1/traces HTTP/1.1\r\n") && head.contains("content-type: application/x-protobuf"),
            "{head}"
        );
        // The trace three times: the request and two stages. The request's span twice as parent and once as itself.
        let count = |part: &[u8]| body.windows(part.len()).filter(|window| *window == part).count();
        assert_eq!((count(&context.trace.0), count(&context.span.0)), (3, 3));
        assert_eq!(count(&context.parent.expect("the caller's").0), 1);
        for text in ["tpcore", "1.2.3", "POST /v1/transfers", "gate", "engine", "insufficient_funds"] {
            assert!(has(&body, text.as_bytes()), "{text}");
        }
        assert!(!has(&body, b"write"), "a stage that never was has no span");
    }

    #[test]
    fn who_does_not_record_is_sampled_by_the_share_that_was_asked_for() {
        let sampled = |per_million: u32, traceparent: Option<&[u8]>| {
            let traces = traces("http://127.0.0.1:1/v1/traces", per_million);
            (0..4000).filter(|_| traces.is_sampled(&TraceContext::of(traceparent))).count()
        };
        assert_eq!((sampled(0, None), sampled(1_000_000, None)), (0, 4000));
        let half = sampled(500_000, None);
        assert!((1700..2300).contains(&half), "9 standard deviations: {half}");
        let unsampled = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        assert_eq!(sampled(0, Some(unsampled)), 0);
    }

    #[test]
    fn an_endpoint_with_tls_is_refused_at_the_start() {
        let (endpoint, timeout) = ("https://localhost/v1/traces".to_owned(), Duration::from_secs(1));
        assert!(Traces::start(&TracesOptions { endpoint, sampled_per_million: 0, version: "1", timeout }).is_err());
    }
}
