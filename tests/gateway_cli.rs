//! `tpcore tenant`, `key`, `config` and what `serve` says when it cannot: exit codes, and secrets that are shown once and nowhere else.
#![cfg(feature = "serve")]

#[path = "support/gateway.rs"]
mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{ALL_ROLES, Gateway, Run, Start, add_key, add_tenant, run, text_of, tpcore};

struct Place {
    folder: tempfile::TempDir,
    data: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    Place { folder, data }
}

impl Place {
    fn on(&self, arguments: &[&str]) -> Run {
        run(&[arguments, &["--data-dir", text_of(&self.data)]].concat(), &[])
    }

    fn file(&self, name: &str, contents: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, contents).expect("written");
        text_of(&path).to_owned()
    }
}

fn ends(run: &Run, code: i32, says: &[&str]) {
    assert_eq!(run.code, Some(code), "{run:?}");
    let said = format!("{}{}", run.stdout, run.stderr);
    for word in says {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
}

fn json_of(run: &Run) -> Value {
    assert_eq!(run.code, Some(0), "{run:?}");
    serde_json::from_str(&run.stdout).expect("JSON")
}

#[test]
fn tenants_keys_and_agreements_are_made_on_a_directory_that_nobody_serves() {
    let p = place();
    // Only the first tenant makes a directory: nothing else does by a slip of the path.
    for refused in [
        p.on(&["key", "add", "--tenant", "1", "--person", "ada", "--roles", "read"]),
        p.on(&["key", "list", "--tenant", "1"]),
        p.on(&["key", "revoke", "00000000000000aa"]),
        p.on(&["tenant", "list"]),
        p.on(&["tenant", "agree", "--payer", "1", "--payee", "2"]),
    ] {
        ends(&refused, 4, &["no data directory", "tenant add"]);
        assert!(!p.data.exists());
    }
    add_tenant(&p.data, "1", "first");
    add_tenant(&p.data, "1", "first");
    add_tenant(&p.data, "2", "second");
    ends(&p.on(&["tenant", "add", "1", "--name", "another"]), 1, &["another name"]);
    for bad in ["-1", "x", "01", "4294967295", ""] {
        ends(&p.on(&["tenant", "add", "--name", "n", "--", bad]), 2, &[]);
    }
    let tenants = json_of(&p.on(&["tenant", "list"]))["tenants"].clone();
    assert_eq!(tenants, json!([{"tenant": 1, "name": "first"}, {"tenant": 2, "name": "second"}]));

    ends(&p.on(&["key", "add", "--tenant", "3", "--person", "x", "--roles", "read"]), 1, &["no such tenant"]);
    ends(&p.on(&["key", "add", "--tenant", "1", "--person", "x", "--roles", "root"]), 2, &["money_movement"]);
    ends(
        &p.on(&["key", "add", "--tenant", "1", "--person", "x", "--roles", "read", "--kind", "ed25519"]),
        2,
        &["32 bytes"],
    );
    ends(&p.on(&["key", "add", "--tenant", "1", "--person", "x", "--roles", "read", "--public", "%"]), 2, &["Base64"]);
    let key = add_key(&p.data, "1", "ada", "read,admin", &[]);
    assert!(key.secret.starts_with(&format!("tpk_{}_", key.id)), "the id is in the key's text");
    let keys = p.on(&["key", "list", "--tenant", "1"]);
    assert!(!keys.stdout.contains(&key.secret[21..]), "a secret is shown once");
    let wanted = json!([{"key": key.id, "kind": "bearer", "person": "ada", "roles": "read,admin", "state": "live"}]);
    assert_eq!(json_of(&keys)["keys"], wanted);
    assert_eq!(json_of(&p.on(&["key", "list", "--tenant", "2"]))["keys"], json!([]));
    ends(&p.on(&["key", "revoke", &key.id]), 0, &[]);
    ends(&p.on(&["key", "revoke", &key.id]), 1, &["no such key"]);
    ends(&p.on(&["key", "revoke", "nonsense"]), 2, &["16 hex digits"]);
    assert_eq!(json_of(&p.on(&["key", "list", "--tenant", "1"]))["keys"][0]["state"], "revoked");

    let agree = |more: &[&str]| p.on(&[&["tenant", "agree", "--payer", "1", "--payee"], more].concat());
    ends(&agree(&["2", "--end"]), 1, &["no such agreement"]);
    ends(&agree(&["3"]), 1, &["no such tenant"]);
    ends(&agree(&["1"]), 1, &["two tenants"]);
    ends(&agree(&["2"]), 0, &[]);
    let reader = add_key(&p.data, "2", "bob", "read", &[]).secret;
    let gateway = Gateway::start(&p.data, &["--set", "log.level=warn"]);
    assert_eq!(gateway.get(&reader, "/v1/tenant").json()["agreements"], json!([{"payer": 1, "payee": 2}]));
    assert_eq!(gateway.get(&key.secret, "/v1/tenant").status, 401, "revoked");
    assert_eq!(gateway.stop(), Some(0));
    ends(&agree(&["2", "--end"]), 0, &[]);
    let gateway = Gateway::start(&p.data, &["--set", "log.level=warn"]);
    assert_eq!(gateway.get(&reader, "/v1/tenant").json()["agreements"], json!([]));
}

#[test]
fn a_directory_that_is_served_is_in_use_for_everybody_else() {
    let p = place();
    add_tenant(&p.data, "1", "first");
    let reader = add_key(&p.data, "1", "ada", "read", &[]).secret;
    let gateway = Gateway::start(&p.data, &["--set", "log.level=warn"]);
    for refused in [
        p.on(&["tenant", "add", "2", "--name", "second"]),
        p.on(&["tenant", "list"]),
        p.on(&["key", "add", "--tenant", "1", "--person", "eve", "--roles", "admin"]),
        p.on(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]),
    ] {
        ends(&refused, 4, &["in use"]);
    }
    assert_eq!(gateway.get(&reader, "/v1/tenant").status, 200);
    let taken = gateway.listen.to_string();
    let other = p.folder.path().join("other");
    let refused =
        run(&["serve", "--listen", &taken, "--admin-listen", "127.0.0.1:0", "--data-dir", text_of(&other)], &[]);
    ends(&refused, 2, &["cannot be listened on", &taken]);
    assert!(!other.exists());
}

#[test]
fn settings_are_read_from_file_environment_and_flags_and_a_bad_one_is_named_with_its_place() {
    let p = place();
    let check = |arguments: &[&str], environment: &[(&str, &str)]| {
        run(&[&["config", "check"], arguments].concat(), environment)
    };
    let shown = json_of(&check(&[], &[]));
    assert_eq!((&shown["listen"]["value"], &shown["listen"]["from"]), (&json!("127.0.0.1:8700"), &json!("default")));
    let file = p.file(
        "good.toml",
        "listen = \"127.0.0.1:1\"\n[limits]\nbody_bytes_max = 2048\nstreams_max = 7\nconnections_max = 9\n",
    );
    let environment = [("TPCORE_LIMITS__STREAMS_MAX", "8"), ("TPCORE_LIMITS__CONNECTIONS_MAX", "10")];
    let shown = json_of(&check(&["--config", &file, "--set", "limits.connections_max=11"], &environment));
    let row =
        |name: &str| (shown[name]["value"].as_str().expect("a value"), shown[name]["from"].as_str().expect("a place"));
    assert_eq!(row("limits.body_bytes_max"), ("2048", &*file));
    assert_eq!(row("limits.streams_max"), ("8", "TPCORE_LIMITS__STREAMS_MAX"));
    assert_eq!(row("limits.connections_max"), ("11", "flag"));
    let by_environment = json_of(&check(&[], &[("TPCORE_CONFIG", &file)]));
    assert_eq!(by_environment["listen"]["value"], "127.0.0.1:1");

    let bad = |name: &str, contents: &str| check(&["--config", &p.file(name, contents)], &[]);
    ends(&bad("syntax.toml", "listen = \n"), 2, &["syntax.toml"]);
    ends(
        &bad("unknown.toml", "[limits]\nbody_byte_max = 2048\n"),
        2,
        &["unknown.toml", "limits.body_byte_max", "limits.body_bytes_max"],
    );
    ends(&bad("range.toml", "[limits]\nbody_bytes_max = 1\n"), 2, &["range.toml", "1024"]);
    ends(&bad("kind.toml", "listen = true\n"), 2, &["kind.toml", "listen"]);
    ends(&bad("section.toml", "limits = 3\n"), 2, &["section.toml", "limits"]);
    ends(&check(&["--config", text_of(&p.folder.path().join("missing.toml"))], &[]), 2, &["missing.toml"]);
    ends(&check(&[], &[("TPCORE_LIMITS__BODY_BYTES_MAX", "many")]), 2, &["TPCORE_LIMITS__BODY_BYTES_MAX", "many"]);
    ends(&check(&[], &[("TPCORE_LISTENN", "127.0.0.1:1")]), 2, &["TPCORE_LISTENN", "listen"]);
    ends(&check(&["--set", "nonsense"], &[]), 2, &["NAME=VALUE"]);
    ends(&check(&["--set", "lissten=127.0.0.1:1"], &[]), 2, &["lissten", "did you mean `listen`"]);
    ends(&check(&["--set", "listen=0.0.0.0:8700"], &[]), 2, &["loopback"]);
    ends(&check(&["--set", "tls.certificate=x"], &[]), 2, &["tls.key"]);
    ends(&check(&["--set", "auth.jwt_keys=x"], &[]), 2, &["auth.jwt_issuer"]);
    ends(&check(&["--set", "engine.segment_bytes=1048577"], &[]), 2, &["4096"]);
    ends(&check(&["--set", "log.level=loud"], &[]), 2, &["log.level"]);
    // What `check` refuses `serve` refuses, before it makes anything.
    ends(&p.on(&["serve", "--set", "lissten=127.0.0.1:1"]), 2, &["lissten"]);
    assert!(!p.data.exists());
}

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn a_secret_is_in_no_log_and_in_no_file() {
    let p = place();
    let log = p.folder.path().join("log");
    add_tenant(&p.data, "1", "first");
    let ada = add_key(&p.data, "1", "ada", ALL_ROLES, &[]).secret;
    let hmac = add_key(&p.data, "1", "hmac", ALL_ROLES, &["--kind", "hmac"]).secret;
    let gateway = Gateway::start_as(
        &p.data,
        &Start { arguments: &["--set", "log.level=trace", "--set", "log.slow_ms=1"], log: Some(&log) },
    );
    let made = gateway.call(&ada, "POST", "/v1/keys", &[], r#"{"person":"bob","roles":["admin"]}"#).json();
    let bob = made["secret"].as_str().expect("a secret").to_owned();
    let made = gateway.call(&bob, "POST", "/v1/keys", &[], r#"{"person":"cyd","roles":["read"],"kind":"hmac"}"#).json();
    let cyd = made["secret"].as_str().expect("a secret").to_owned();
    // Slips: a part of a key, one with a letter too many, the wrong scheme, in the path and in the query.
    let slips = [&bob[..60], &format!("{bob}x"), &hmac];
    for slip in slips {
        assert_eq!(gateway.get(slip, "/v1/tenant").status, 401);
        assert_eq!(gateway.send("GET", "/v1/tenant", &[("authorization", &format!("Basic {slip}"))], "").status, 401);
    }
    assert_eq!(gateway.get(&bob, &format!("/v1/keys/{bob}")).status, 405);
    assert_eq!(gateway.get(&ada, &format!("/v1/accounts?key={bob}")).status, 400);
    assert_eq!(gateway.call(&ada, "POST", "/v1/keys", &[], &format!(r#"{{"persn":"{bob}"}}"#)).status, 400);
    assert_eq!(gateway.stop(), Some(0));
    let text = std::fs::read_to_string(&log).expect("a log");
    assert!(text.contains("not believed"), "something was logged: {text}");
    let mut kept = Vec::new();
    files(&p.data, &mut kept);
    assert!(kept.iter().any(|path| path.ends_with("server/control.json")), "{kept:?}");
    let where_found = |part: &str| -> Vec<PathBuf> {
        let has = |path: &&PathBuf| String::from_utf8_lossy(&std::fs::read(path).expect("readable")).contains(part);
        kept.iter().filter(has).cloned().collect()
    };
    // A key's id is public, and is found where the secret would be: in the journal and in the image.
    assert!(where_found(&bob[4..20]).len() >= 2);
    for secret in [&ada[21..], &bob[21..], &hmac, &cyd] {
        let part = &secret[..24];
        assert!(!text.contains(part), "the log has {part}");
        assert_eq!(where_found(part), Vec::<PathBuf>::new(), "{part}");
    }
    tpcore(&["verify", "--data-dir", text_of(&p.data)]);
}

#[cfg(unix)]
#[test]
fn the_master_key_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let p = place();
    add_tenant(&p.data, "1", "first");
    let seal = p.data.join("server").join("seal.key");
    let mode = std::fs::metadata(&seal).expect("it was made").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}
