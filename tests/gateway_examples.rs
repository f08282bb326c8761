//! What a caller of the gateway runs first: the examples of `examples/gateway/`, and the metrics as Prometheus reads them.

#[path = "support/gateway.rs"]
mod support;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use support::{Gateway, has_tool};

fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn example(name: &str) -> String {
    format!("{}/examples/gateway/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_example_with_curl_pays_and_refunds() {
    if !has_tool("curl") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let url = format!("http://{}", gateway.listen);
    let run = || Command::new(example("curl.sh")).env("URL", &url).env("KEY", &gateway.key).env("RUN", "one").output();
    let first = said(&run().expect("it runs"));
    assert!(first.contains(r#""repeated":true"#) && first.contains(r#""refunded":"500""#), "{first}");
    let merchant = || gateway.get(&gateway.key, "/v1/accounts/100").json()["balances"]["posted"].clone();
    assert_eq!(merchant(), "1500");
    // With the same keys: the same payment, not a second one.
    said(&run().expect("it runs"));
    assert_eq!(merchant(), "1500");
}

#[test]
fn the_example_in_python_pays_settles_doubts_and_signs() {
    if !has_tool("python3") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let url = format!("http://{}", gateway.listen);
    let run = Command::new("python3").args([&example("gateway.py"), "--url", &url, "--key", &gateway.key]).output();
    let printed = said(&run.expect("it runs"));
    for line in
        ["in doubt, then known", "a command that never came was fenced", "signed requests: believed", "not believed"]
    {
        assert!(printed.contains(line), "{printed}");
    }
    assert_eq!(gateway.get(&gateway.key, "/v1/accounts/100").json()["balances"]["posted"], "3000");
}

#[test]
fn the_acquirer_in_python_speaks_both_layouts_with_a_library_that_is_not_ours() {
    let Some(python) = support::python_with("iso8583") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let listeners = std::fs::read_to_string(format!("{}/examples/iso8583/listeners.toml", env!("CARGO_MANIFEST_DIR")));
    let free = listeners.expect("the example").replace(":8583", ":0").replace(":8584", ":0");
    let file = folder.path().join("listeners.toml");
    std::fs::write(&file, free).expect("written");
    let setting = format!("cards.listeners={}", file.display());
    let gateway = Gateway::dev(&folder.path().join("data"), &["--set", &setting]);
    for ((_, at), layout) in gateway.cards.iter().zip(["ascii", "bcd"]) {
        let program = format!("{}/examples/iso8583/acquirer.py", env!("CARGO_MANIFEST_DIR"));
        let (at, card) = (at.to_string(), gateway.first_card.as_str());
        let run = Command::new(&python).args([&program, "--at", &at, "--layout", layout, "--card", card]).output();
        let printed = said(&run.expect("it runs"));
        for line in
            ["purchase: 0110 00", "completion: 0230 00", "its repeat after that: 0110 68", "100 at once: all answered"]
        {
            assert!(printed.contains(line), "{layout}: {printed}");
        }
    }
    assert_eq!(gateway.get(&gateway.key, "/v1/accounts/900").json()["balances"]["posted"], "4000");
}

#[test]
fn the_caller_over_grpc_is_python_with_code_made_from_the_description() {
    let Some(python) = support::python_with("grpc_tools") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let root = env!("CARGO_MANIFEST_DIR");
    let made = folder.path().to_str().expect("UTF-8");
    let compiled = Command::new(&python)
        .args(["-m", "grpc_tools.protoc", "-I", &format!("{root}/protocol/proto")])
        .args([&format!("--python_out={made}"), &format!("--grpc_python_out={made}"), "tpcore.proto"])
        .output();
    said(&compiled.expect("it runs"));
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let run = || {
        let at = gateway.listen.to_string();
        Command::new(&python)
            .env("PYTHONPATH", made)
            .args([&format!("{root}/examples/grpc/client.py"), "--at", &at, "--key", &gateway.key])
            .output()
    };
    let printed = said(&run().expect("it runs"));
    for line in [
        "the same answer again",
        "each for itself",
        "1000 under way, all answered",
        "gone on with at a cursor",
        "nobody without a key",
    ] {
        assert!(printed.contains(line), "{printed}");
    }
    let account = gateway.get(&gateway.key, "/v1/accounts/1").json()["balances"].clone();
    assert_eq!((&account["posted"], &account["held"]), (&"998000".into(), &"1000".into()));
}

#[test]
fn the_caller_over_frames_is_python_with_the_bytes_of_the_page() {
    let Some(python) = support::python_with("struct") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &["--set", "frames.listen=127.0.0.1:0"]);
    let program = format!("{}/examples/frames/client.py", env!("CARGO_MANIFEST_DIR"));
    let at = gateway.frames.expect("the door").to_string();
    let run = Command::new(&python).args([&program, "--at", &at, "--key", &gateway.key]).output();
    let printed = said(&run.expect("it runs"));
    for line in ["welcome: tenant 1", "the same answer again", "what became of it", "1000 under way, all answered"] {
        assert!(printed.contains(line), "{printed}");
    }
    assert!(printed.contains("nobody without a key: reason 2"), "{printed}");
    // A name is the same key over HTTP.
    let body = r#"{"account":"1","amount":"2500","asset":"EUR","scale":2}"#;
    let again = gateway.command(&gateway.key, "/v1/authorizations", "frames-1-one", body).json();
    assert_eq!(again["repeated"], true);
}

#[test]
fn prometheus_finds_nothing_to_say_about_the_metrics_of_a_server_with_traffic() {
    if !has_tool("promtool") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    for number in 0..20 {
        let body = format!(r#"{{"account":"1","amount":"{number}","asset":"EUR","scale":2}}"#);
        gateway.command(&gateway.key, "/v1/authorizations", &format!("k{number}"), &body);
    }
    assert_eq!(gateway.get("wrong", "/v1/tenant").status, 401);
    let metrics = gateway.admin("/metrics");
    assert_eq!(metrics.status, 200);
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    tool.stdin.take().expect("piped").write_all(metrics.text.as_bytes()).expect("it reads");
    let output = tool.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}
