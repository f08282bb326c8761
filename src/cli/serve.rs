//! `tpcore serve` and `tpcore config`: the network front, from arguments to exit code.
//!
//! Owns the process's runtime, its signals and what is printed at the start. Refuses to know the protocol.

use std::cell::RefCell;

use serde_json::{Map, json};
use tp_server::observe::log::{LogOptions, init, level_named};
use tp_server::server::{ServeError, ServeOptions, Told, serve};
use tp_server::settings::{Origin, SettingError, Settings};

use super::args::{ConfigVerb, Serve, SettingArguments};
use super::exit::{Code, Failure};
use super::open::class_code;
use super::output::{Output, Table, object};

/// Runs `tpcore serve`.
pub(crate) fn run(arguments: &Serve, output: &mut Output) -> Result<Code, Failure> {
    let mut settings = read(&arguments.settings)?;
    for (name, value) in [("listen", &arguments.listen), ("admin_listen", &arguments.admin_listen)] {
        if let Some(value) = value {
            settings.set(name, value, Origin::Flag).map_err(|error| usage(&error))?;
        }
    }
    settings.validate().map_err(|error| usage(&error))?;
    if arguments.dev && !(settings.listen.ip().is_loopback() && settings.admin_listen.ip().is_loopback()) {
        return Err(Failure::new(Code::Usage, "--dev prints keys to anybody's money: it serves on loopback only"));
    }
    let level = level_named(&settings.log_level).unwrap_or(LogOptions::default().level);
    let _ = init(LogOptions { level, ..LogOptions::default() }); // a second start in one process logs as the first
    let workers = match settings.workers.size() {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("tp-net")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Check, format!("no threads for the network: {error}")))?;
    let options = ServeOptions { settings, data_dir: arguments.data_dir.clone(), dev: arguments.dev };
    let told = RefCell::new(output);
    let served = runtime.block_on(async {
        let stop = stop_signal().map_err(|error| Failure::new(Code::Check, format!("signals: {error}")))?;
        serve(options, stop, |what| tell(&told, &what)).await.map_err(|error| failure(&error))
    });
    // Connections that outlived the drain are cut with the runtime.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    let closed = match served {
        Ok(closed) => closed,
        Err(failure) if failure.code == Code::Ok => {
            tell_text(&told, &failure.message);
            return Ok(Code::Ok);
        }
        Err(failure) => return Err(failure),
    };
    tell_text(&told, &format!("closed in order, last sequence number {}", closed.last_seq));
    Ok(Code::Ok)
}

/// Over when the process is told to stop.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        std::future::poll_fn(|context| {
            let is_told = terminate.poll_recv(context).is_ready() || interrupt.poll_recv(context).is_ready();
            if is_told { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    })
}

/// Prints what happens, as it happens: the reader waits for it.
fn tell(output: &RefCell<&mut Output>, told: &Told) {
    let scheme = |is_encrypted: bool| if is_encrypted { "https" } else { "http" };
    let lines = match told {
        Told::Listening { listen, admin, is_encrypted, cards, frames } => {
            let mut lines = vec![
                format!("listening on {}://{listen}, recovering", scheme(*is_encrypted)),
                format!("status page and metrics on http://{admin}"),
            ];
            lines.extend(cards.iter().map(|(name, address)| format!("card messages for {name} on {address}")));
            lines.extend(frames.iter().map(|address| format!("frames on {address}")));
            lines
        }
        Told::Ready { last_seq, took, demo } => {
            let mut lines = vec![format!("ready after {} ms, last sequence number {last_seq}", took.as_millis())];
            if let Some(demo) = demo {
                lines
                    .push("tenant 1: accounts 1 to 10 with 10000.00 EUR each, merchant 100, settlement 900".to_owned());
                lines.push(format!("card of account 1: {}", demo.first_card));
                lines.push(format!("key {}", demo.key));
                lines.push(format!("second person's key {}", demo.second_key));
                lines.push(format!("operator's key {}", demo.operator_key));
            }
            lines
        }
        Told::Draining => vec!["stopping: answering what was accepted".to_owned()],
        _ => Vec::new(),
    };
    if output.borrow().is_json() {
        tell_json(output, told);
    } else {
        for line in &lines {
            tell_text(output, line);
        }
    }
}

fn tell_text(output: &RefCell<&mut Output>, line: &str) {
    let mut output = output.borrow_mut();
    if !output.is_json() {
        let _ = output.line(line).and_then(|()| output.flush()); // a closed pipe is no reason to stop serving
    }
}

fn tell_json(output: &RefCell<&mut Output>, told: &Told) {
    let fields: Map<_, _> = match told {
        Told::Listening { listen, admin, is_encrypted, cards, frames } => object([
            ("told", json!("listening")),
            ("listen", json!(listen.to_string())),
            ("admin", json!(admin.to_string())),
            ("tls", json!(is_encrypted)),
            ("cards", cards.iter().map(|(name, address)| (name.clone(), json!(address.to_string()))).collect()),
            ("frames", json!(frames.map(|address| address.to_string()))),
        ]),
        Told::Ready { last_seq, took, demo } => object([
            ("told", json!("ready")),
            ("last_seq", json!(last_seq)),
            ("took_ms", json!(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))),
            ("first_card", json!(demo.as_ref().map(|demo| &demo.first_card))),
            ("key", json!(demo.as_ref().map(|demo| &demo.key))),
            ("second_key", json!(demo.as_ref().map(|demo| &demo.second_key))),
            ("operator_key", json!(demo.as_ref().map(|demo| &demo.operator_key))),
        ]),
        Told::Draining => object([("told", json!("draining"))]),
        _ => return,
    };
    let mut output = output.borrow_mut();
    let _ = output.object(&fields).and_then(|()| output.flush()); // as above
}

/// The settings of file, environment and flags.
pub(crate) fn read(arguments: &SettingArguments) -> Result<Settings, Failure> {
    let mut settings = Settings::defaults().map_err(|error| usage(&error))?;
    if let Some(path) = &arguments.config {
        settings.read_file(path).map_err(|error| usage(&error))?;
    }
    settings.read_environment(std::env::vars()).map_err(|error| usage(&error))?;
    for pair in &arguments.set {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::new(Code::Usage, format!("--set {pair}: NAME=VALUE is wanted")))?;
        settings.set(name, value, Origin::Flag).map_err(|error| usage(&error))?;
    }
    Ok(settings)
}

fn usage(error: &SettingError) -> Failure {
    Failure::new(Code::Usage, format!("{error}; `tpcore config check` lists all settings"))
}

/// Runs `tpcore config`.
pub(crate) fn run_config(verb: &ConfigVerb, output: &mut Output) -> Result<Code, Failure> {
    let ConfigVerb::Check(arguments) = verb;
    let settings = read(arguments)?;
    settings.validate().map_err(|error| usage(&error))?;
    if output.is_json() {
        let mut fields = Map::new();
        for (setting, value, origin) in settings.each() {
            let row =
                json!({"value": value, "unit": setting.unit, "from": origin.to_string(), "default": setting.default});
            fields.insert(setting.name.to_owned(), row);
        }
        output.object(&fields)?;
        return Ok(Code::Ok);
    }
    let mut table = Table::new(&["setting", "value", "unit", "from"], 4);
    for (setting, value, origin) in settings.each() {
        table.row(vec![setting.name.to_owned(), value, setting.unit.to_owned(), origin.to_string()]);
    }
    table.print(output)?;
    Ok(Code::Ok)
}

/// What a server's error means for the exit code, with what to do.
pub(crate) fn failure(error: &ServeError) -> Failure {
    let code = match error {
        ServeError::Settings(_)
        | ServeError::Listen { .. }
        | ServeError::Tls(_)
        | ServeError::Tokens(_)
        | ServeError::MasterKey(_)
        | ServeError::MasterKeyLost { .. }
        | ServeError::Seal(_) => Code::Usage,
        ServeError::Stopped => Code::Ok,
        ServeError::Open(open) => class_code(open.class(), error),
        ServeError::Poisoned(cause) => class_code(cause.class(), error),
        ServeError::Close(close) => class_code(close.class(), error),
        _ => Code::Check,
    };
    Failure::new(code, error.to_string())
}
