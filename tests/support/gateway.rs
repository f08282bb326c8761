//! A running `tpcore serve` for tests: the real binary, real sockets, its own directory.
//!
//! Owns the process and a small HTTP/1.1 client that sends exactly the bytes it is told. Refuses to share code with the server.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// How a server is started.
#[derive(Default)]
pub(crate) struct Start<'a> {
    /// More arguments of `tpcore serve`.
    pub(crate) arguments: &'a [&'a str],
    /// Where its diagnostics go; `None`: where the test's go.
    pub(crate) log: Option<&'a Path>,
}

/// A server that is ready.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// With `--dev`: a key with every role of tenant 1.
    pub(crate) key: String,
    pub(crate) second_key: String,
    pub(crate) operator_key: String,
    /// The listeners of card messages, by name.
    pub(crate) cards: Vec<(String, SocketAddr)>,
    /// The binary door, where there is one.
    pub(crate) frames: Option<SocketAddr>,
    /// With `--dev`: the number of account 1's card.
    pub(crate) first_card: String,
    /// What it prints after `ready`.
    stdout: BufReader<std::process::ChildStdout>,
}

/// No answer takes longer in any test: only a server that hangs does.
const PATIENCE: Duration = Duration::from_mins(2);

impl Gateway {
    /// Starts `tpcore serve --dev` with more arguments and waits until it is ready.
    pub(crate) fn dev(data_dir: &Path, more: &[&str]) -> Self {
        Self::start(data_dir, &[&["--dev"], more].concat())
    }

    /// Starts `tpcore serve` on ports that are free and waits until it is ready.
    pub(crate) fn start(data_dir: &Path, more: &[&str]) -> Self {
        Self::start_as(data_dir, &Start { arguments: more, log: None })
    }

    /// As [`Gateway::start`].
    pub(crate) fn start_as(data_dir: &Path, start: &Start<'_>) -> Self {
        Self::spawn(command(), data_dir, start)
    }

    /// As [`Gateway::start`], by a command that ends in the binary with the arguments that it is given.
    pub(crate) fn start_by(command: Command, data_dir: &Path, more: &[&str]) -> Self {
        Self::spawn(command, data_dir, &Start { arguments: more, log: None })
    }

    fn spawn(mut command: Command, data_dir: &Path, start: &Start<'_>) -> Self {
        let stderr = match start.log {
            None => Stdio::inherit(),
            Some(path) => {
                let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
                Stdio::from(file.expect("a file for the log"))
            }
        };
        let mut child = command
            .args(["--json", "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(start.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut told = |what: &str| {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("readable");
            let value: Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("`{what}` expected, got {line:?}"));
            assert_eq!(value["told"], what, "{line}");
            value
        };
        let (listening, ready) = (told("listening"), told("ready"));
        let address = |name: &str| listening[name].as_str().expect("an address").parse().expect("an address");
        let cards = listening["cards"].as_object().cloned().unwrap_or_default();
        let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        Self {
            listen: address("listen"),
            admin: address("admin"),
            key: text("key"),
            second_key: text("second_key"),
            operator_key: text("operator_key"),
            frames: listening["frames"].as_str().map(|at| at.parse().expect("an address")),
            first_card: text("first_card"),
            cards: cards
                .iter()
                .map(|(name, at)| (name.clone(), at.as_str().expect("text").parse().expect("an address")))
                .collect(),
            child,
            stdout,
        }
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Files and sockets that the process has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).expect("its files").count()
    }

    /// Memory of the process that is in use, KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// SIGTERM; gives back the exit code once it is gone.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().expect("kill");
        assert!(told.success());
        self.child.wait().expect("gone").code()
    }

    /// SIGTERM, without waiting.
    pub(crate) fn terminate(&self) {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill");
        assert!(told.success());
    }

    /// Waits for the end; gives back the exit code.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("gone").code()
    }

    /// One request on a connection of its own, with `key` as bearer.
    pub(crate) fn call(&self, key: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let bearer = format!("Bearer {key}");
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        self.send(method, path, &all, body)
    }

    /// One request on a connection of its own.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut connection = Connection::open(self.listen);
        connection.send(method, path, headers, body);
        connection.answer()
    }

    /// A command with its idempotency key.
    pub(crate) fn command(&self, key: &str, path: &str, idempotency_key: &str, body: &str) -> Answer {
        self.call(key, "POST", path, &[("idempotency-key", idempotency_key)], body)
    }

    /// A read.
    pub(crate) fn get(&self, key: &str, path: &str) -> Answer {
        self.call(key, "GET", path, &[], "")
    }

    /// What the admin listener answers.
    pub(crate) fn admin(&self, path: &str) -> Answer {
        let mut connection = Connection::open(self.admin);
        connection.send("GET", path, &[], "");
        connection.answer()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may be gone already
        let _ = self.child.wait();
    }
}

/// An answer.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
    /// The stable name of the outcome.
    pub(crate) fn outcome(&self) -> String {
        self.json()["outcome"].as_str().unwrap_or_default().to_owned()
    }
}

/// What carries bytes: a socket, or an encrypted one.
pub(crate) trait Wire: std::io::Read + std::io::Write + Send {}
impl<T: std::io::Read + std::io::Write + Send> Wire for T {}

/// A connection that sends what it is told.
pub(crate) struct Connection {
    stream: BufReader<Carrier>,
}

enum Carrier {
    Plain(TcpStream),
    Other(Box<dyn Wire>),
}

impl std::io::Read for Carrier {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Other(wire) => wire.read(buffer),
        }
    }
}

impl std::io::Write for Carrier {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Other(wire) => wire.write(bytes),
        }
    }
    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Other(wire) => wire.flush(),
        }
    }
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self { stream: BufReader::new(Carrier::Plain(Self::dial(address))) }
    }

    /// A socket as connections use it.
    pub(crate) fn dial(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// Over something that is connected already.
    pub(crate) fn over(wire: impl Wire + 'static) -> Self {
        Self { stream: BufReader::new(Carrier::Other(Box::new(wire))) }
    }

    /// Raw bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// A whole request.
    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        self.try_send(method, path, headers, body).expect("sent");
    }

    /// A whole request to a server that may be gone.
    pub(crate) fn try_send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if !body.is_empty() {
            head.extend(["content-type: application/json\r\ncontent-length: ", &body.len().to_string(), "\r\n"]);
        } else if method != "GET" {
            head.push_str("content-length: 0\r\n");
        }
        head.push_str("\r\n");
        head.push_str(body);
        self.write(head.as_bytes())
    }

    /// The next answer, if the server gives one before it closes.
    pub(crate) fn try_answer(&mut self) -> std::io::Result<Option<Answer>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim_end();
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, v)| v.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut body)?;
        Ok(Some(Answer { status, headers, text: String::from_utf8(body).expect("UTF-8") }))
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("readable").expect("an answer before the end")
    }

    /// The socket of a connection without TLS.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self.stream.get_ref() {
            Carrier::Plain(stream) => stream,
            Carrier::Other(_) => panic!("a connection over TLS has no socket of its own"),
        }
    }

    /// Everything up to the end of the connection, which the server has to make.
    pub(crate) fn until_the_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("the server did not close the connection; it said {:?}", String::from_utf8_lossy(&rest))
            }
            _ => rest, // reset counts as an end
        }
    }

    /// Everything up to the end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest); // reset counts as an end
        rest
    }
}

/// Runs a `tpcore` command that has to succeed; gives back its JSON.
pub(crate) fn tpcore(arguments: &[&str]) -> Value {
    let run = run(arguments, &[]);
    assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.stderr);
    serde_json::from_str(&run.stdout).unwrap_or(Value::Null)
}

/// The binary, without settings of whoever runs the tests, and with journal segments as small as tests need them.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tpcore"));
    std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TPCORE_")).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.env("TPCORE_ENGINE__SEGMENT_BYTES", "1048576");
    command
}

/// How a `tpcore` command ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a `tpcore` command to its end, with more in its environment.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let output = command().arg("--json").args(arguments).envs(environment.iter().copied()).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A key made by the command line.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    /// Empty: its holder has it.
    pub(crate) secret: String,
}

/// `tpcore tenant add`
pub(crate) fn add_tenant(data_dir: &Path, tenant: &str, name: &str) {
    tpcore(&["tenant", "add", tenant, "--name", name, "--data-dir", text_of(data_dir)]);
}

/// `tpcore key add` with more arguments.
pub(crate) fn add_key(data_dir: &Path, tenant: &str, person: &str, roles: &str, more: &[&str]) -> Key {
    let arguments = ["key", "add", "--tenant", tenant, "--person", person, "--roles", roles, "--data-dir"];
    let made = tpcore(&[&arguments, &[text_of(data_dir)][..], more].concat());
    let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
    Key { id: text("key"), secret: text("secret") }
}

/// Every role.
pub(crate) const ALL_ROLES: &str = "read,authorize,money_movement,admin,card_data";

/// A path as an argument.
pub(crate) fn text_of(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Whether an outer tool is there; without it the test skips with a reason, and fails where nothing may be skipped.
pub(crate) fn has_tool(tool: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder: PathBuf| folder.join(tool).is_file()));
    if !found {
        assert!(std::env::var_os("TPCORE_NO_SKIP").is_none(), "{tool} is missing, and nothing may be skipped");
        let _ = writeln!(std::io::stderr(), "skipped: {tool} is not installed");
    }
    found
}

/// A Python that has the module: the system's, or one of a folder of `PATH` (a virtual environment). Without one the test skips with a
/// reason, and fails where nothing may be skipped.
pub(crate) fn python_with(module: &str) -> Option<PathBuf> {
    let folders =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let pythons = folders.iter().flat_map(|folder| [folder.join("python3"), folder.join("python")]);
    let has_it = |python: &PathBuf| {
        let tried = Command::new(python).args(["-I", "-c", &format!("import {module}")]).stderr(Stdio::null()).status();
        python.is_file() && tried.is_ok_and(|status| status.success())
    };
    let found = pythons.into_iter().find(has_it);
    if found.is_none() {
        assert!(std::env::var_os("TPCORE_NO_SKIP").is_none(), "no Python has {module}, and nothing may be skipped");
        let _ = writeln!(std::io::stderr(), "skipped: no Python has the module {module}");
    }
    found
}
