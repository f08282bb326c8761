//! The status page in a real browser, as an operator sees and uses it.
//!
//! Owns a browser without a window that is told what to do through pipes (the `DevTools` protocol: JSON texts, each with a NUL after it).

#[path = "support/gateway.rs"]
mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use support::{Gateway, has_tool};

/// A page in a browser.
struct Page {
    child: Child,
    told: ChildStdin,
    says: BufReader<ChildStdout>,
    session: Option<String>,
    calls: u64,
    /// Errors of scripts, of the policy, of the network.
    errors: Vec<String>,
}

impl Page {
    fn open(profile: &Path, url: &str) -> Self {
        // The browser reads from descriptor 3 and writes to 4. As root it has no sandbox; it opens our own page only.
        let script = r#"exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
            --disable-background-networking --remote-debugging-pipe --user-data-dir="$1" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the browser starts");
        let (told, says) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut page = Self { child, told, says: BufReader::new(says), session: None, calls: 0, errors: Vec::new() };
        let target = page.call("Target.createTarget", &json!({"url": "about:blank"}))["targetId"].clone();
        let session = page.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}));
        page.session = Some(session["sessionId"].as_str().expect("a session").to_owned());
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            page.call(domain, &json!({}));
        }
        page.call("Page.navigate", &json!({"url": url}));
        page
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.told.write_all(format!("{message}\0").as_bytes()).expect("the browser reads");
        loop {
            let mut text = Vec::new();
            self.says.read_until(0, &mut text).expect("the browser speaks");
            assert_eq!(text.pop(), Some(0), "the browser ended at {method}; before: {:?}", self.errors);
            let said: Value = serde_json::from_slice(&text).expect("JSON");
            if said["id"] == json!(self.calls) {
                assert!(said["error"].is_null(), "{method}: {said}");
                return said["result"].clone();
            }
            let event = said["method"].as_str().unwrap_or_default();
            let is_error = match event {
                "Log.entryAdded" => said["params"]["entry"]["level"] == "error",
                "Runtime.consoleAPICalled" => said["params"]["type"] == "error",
                _ => event == "Runtime.exceptionThrown",
            };
            if is_error {
                self.errors.push(said["params"].to_string());
            }
        }
    }

    fn evaluate(&mut self, expression: &str) -> Value {
        let result = self
            .call("Runtime.evaluate", &json!({"expression": expression, "awaitPromise": true, "returnByValue": true}));
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until something is true on the page; it looks itself.
    fn until(&mut self, condition: &str) {
        let wait = format!(
            "new Promise((done) => {{ let left = 1200; const look = () => {{ if ({condition}) {{ done(true); }} \
             else if ((left -= 1) === 0) {{ done(false); }} else {{ setTimeout(look, 50); }} }}; look(); }})"
        );
        let is_true = self.evaluate(&wait);
        let text = self.evaluate("document.body.innerText");
        assert_eq!(is_true, true, "{condition} never came true: {text}; {:?}", self.errors);
    }

    fn text(&mut self, id: &str) -> String {
        let text = self.evaluate(&format!(r#"document.querySelector('[data-testid="{id}"]').innerText"#));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Types into a field, as a person does.
    fn type_into(&mut self, id: &str, text: &str) {
        self.evaluate(&format!(
            r#"(() => {{ const field = document.getElementById("{id}"); field.value = ""; field.focus(); }})()"#
        ));
        self.call("Input.insertText", &json!({"text": text}));
    }

    fn click(&mut self, id: &str) {
        self.evaluate(&format!(r#"document.querySelector('[data-testid="{id}"]').click()"#));
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may be gone already
        let _ = self.child.wait();
    }
}

const NOT_BUSY: &str = r#"document.getElementById("result").getAttribute("aria-busy") === "false""#;

#[test]
fn an_operator_sees_the_traffic_and_finds_an_account_and_an_authorization() {
    if !has_tool("chromium") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let post = |path: &str, key: &str, body: &str| gateway.command(&gateway.key, path, key, body).json();
    let hold = |key: &str, amount: u32| {
        post("/v1/authorizations", key, &format!(r#"{{"account":"1","amount":"{amount}","asset":"EUR","scale":2}}"#))
    };
    let authorization = hold("order", 2_500)["authorization"].as_str().expect("an id").to_owned();
    let capture =
        r#"{"payee":"100","amount":"2000","asset":"EUR","scale":2,"is_final":true,"reference":"<b>parcel</b>"}"#;
    post(&format!("/v1/authorizations/{authorization}/captures"), "capture", capture);

    let mut page = Page::open(&folder.path().join("profile"), &format!("http://{}/", gateway.admin));
    page.until(r#"document.querySelector('[data-testid="state"]')?.innerText === "serving""#);
    // Traffic until a whole second of it is shown.
    for number in 0..40 {
        hold(&format!("more-{number}"), 1);
    }
    page.until(r#"parseFloat(document.querySelector('[data-testid="rate"]').innerText) > 0"#);
    page.until(r#"/^[0-9.]+ (µs|ms|s)$/.test(document.querySelector('[data-testid="p99-10s"]').innerText)"#);
    page.until(r##"document.querySelectorAll("#chart rect.bar.approved").length > 0"##);
    assert!(page.text("outcomes").contains("approved"));
    assert_ne!(page.text("durable-seq"), "-");
    assert_eq!(
        page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"),
        true,
        "it fits"
    );

    // Without a key nothing of a tenant is shown.
    page.type_into("account", "1");
    page.click("statement-submit");
    page.until(r#"document.querySelector('[data-testid="problem"]')?.innerText.includes("unauthenticated")"#);
    // The browser itself reports the 401; nothing else went wrong so far.
    assert!(page.errors.iter().all(|error| error.contains("401")), "{:?}", page.errors);
    page.errors.clear();

    let key = gateway.key.clone();
    page.type_into("api-key", &key);
    page.click("statement-submit");
    page.until(r#"document.querySelector('[data-testid="result-table"]') !== null"#);
    page.until(NOT_BUSY);
    let statement = page.text("result");
    assert!(statement.contains("Statement of account 1") && statement.contains("20.00 EUR"), "{statement}");

    page.type_into("authorization", &authorization);
    page.click("authorization-submit");
    page.until(r#"document.querySelector('[data-testid="result-members"]') !== null"#);
    page.until(NOT_BUSY);
    let shown = page.text("result");
    for text in [authorization.as_str(), "captured", "25.00", "History", "authorized"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert_eq!(page.evaluate(r##"document.querySelectorAll("#result b").length"##), 0, "data became markup");
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}
