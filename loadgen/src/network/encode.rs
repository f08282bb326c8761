//! Commands as HTTP requests: written by hand into buffers that are used again.
//!
//! Owns routes, headers and members as `docs/src/protocol.md` has them; refuses to send. Nothing is allocated per command once
//! the buffers have grown, and everything written is digits, hexadecimal or a fixed text, so that nothing needs an escape.

use std::io::Write as _;

use tpcore::{AccountId, Amount, Command, CreditLimit, Key, KeyKind, Ledger, ReadTarget, RefundTarget};

use super::endpoint::{BearerKey, Endpoint};
use crate::plan::ledger;

/// The API's account ids are below 2^96: the number above these bits goes where it can be read, a million millions apart.
const KIND_FACTOR: u128 = 1_000_000_000_000;
const NUMBER_BITS: u32 = 96;

/// The id of a generator's account in the API: payers from 1,000,000,000,000 on, payees from 2,000,000,000,000, those that give
/// opening balances from 3,000,000,000,000.
pub const fn api_account(account: AccountId) -> u128 {
    let (kind, number) = (account.0 >> NUMBER_BITS, account.0 & ((1 << NUMBER_BITS) - 1));
    kind * KIND_FACTOR + number
}

/// Whether a batch may hold it: the others are reads, or have a route of their own only.
pub(crate) const fn fits_batch(command: &Command) -> bool {
    !matches!(command, Command::Read(_) | Command::Record(_)) && !is_fence(command)
}

const fn is_fence(command: &Command) -> bool {
    matches!(command, Command::Lookup(lookup) if lookup.fence)
}

/// Writes requests.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// What follows the path of a `GET`, up to its own headers.
    get: Vec<u8>,
    /// Likewise of a request with a body.
    post: Vec<u8>,
    ledger: Ledger,
    /// `,"asset":"EUR","scale":2`.
    denomination: Vec<u8>,
    body: Vec<u8>,
    path: Vec<u8>,
}

impl Encoder {
    /// For a server; `deadline_ms`: how long a command may take, 1 to 60,000.
    pub(crate) fn new(endpoint: &Endpoint, key: Option<&BearerKey>, deadline_ms: u64) -> Self {
        let mut get = format!(" HTTP/1.1\r\nHost: {}\r\n", endpoint.authority());
        if let Some(key) = key {
            get.push_str("Authorization: Bearer ");
            get.push_str(key.expose());
            get.push_str("\r\n");
        }
        let post = format!("{get}Content-Type: application/json\r\nTpcore-Deadline-Ms: {deadline_ms}\r\n");
        let ledger = ledger();
        let denomination = format!(",\"asset\":\"{}\",\"scale\":{}", ledger.asset(), ledger.scale());
        let (body, path) = (Vec::with_capacity(4096), Vec::with_capacity(128));
        Self { get: get.into(), post: post.into(), ledger, denomination: denomination.into(), body, path }
    }

    /// A `GET`.
    pub(crate) fn get(&self, out: &mut Vec<u8>, path: &str) {
        out.extend_from_slice(b"GET ");
        out.extend_from_slice(path.as_bytes());
        out.extend_from_slice(&self.get);
        out.extend_from_slice(b"\r\n");
    }

    /// One command on its own route. `false`: the generator does not speak it, nothing was written.
    pub(crate) fn single(&mut self, out: &mut Vec<u8>, command: &Command) -> bool {
        self.path.clear();
        match command {
            Command::Lookup(lookup) => {
                self.path_of_command(lookup.account, lookup.key);
                if lookup.fence {
                    self.path.extend_from_slice(b"/fence");
                }
                self.asking(out, lookup.fence, Some(lookup.key.kind));
                return true;
            }
            Command::Read(read) => {
                let ReadTarget::Account(account) = read.target else { return false };
                self.path.extend_from_slice(b"/v1/accounts/");
                decimal(&mut self.path, api_account(account));
                self.asking(out, false, None);
                return true;
            }
            Command::OpenAccount(_) => self.path.extend_from_slice(b"/v1/accounts"),
            Command::Authorize(_) => self.path.extend_from_slice(b"/v1/authorizations"),
            Command::Increment(c) => self.path_of_authorization(c.authorization.0, b"increments"),
            Command::Capture(c) => self.path_of_authorization(c.authorization.0, b"captures"),
            Command::Void(c) => self.path_of_authorization(c.authorization.0, b"voids"),
            Command::Refund(_) => self.path.extend_from_slice(b"/v1/refunds"),
            Command::Reverse(_) => self.path.extend_from_slice(b"/v1/reversals"),
            Command::Transfer(_) => self.path.extend_from_slice(b"/v1/transfers"),
            _ => return false,
        }
        let Some(key) = command.key() else { return false };
        self.body.clear();
        self.body.push(b'{');
        self.members(command, Part::Body);
        self.body.push(b'}');
        out.extend_from_slice(b"POST ");
        out.extend_from_slice(&self.path);
        out.extend_from_slice(&self.post);
        out.extend_from_slice(b"Idempotency-Key: ");
        uuid(out, key.bits);
        out.extend_from_slice(b"\r\n");
        kind_header(out, key.kind);
        self.finish(out);
        true
    }

    /// All of them in one request; each must be one that [`fits_batch`].
    pub(crate) fn batch<'a>(&mut self, out: &mut Vec<u8>, commands: impl Iterator<Item = &'a Command>) {
        self.body.clear();
        self.body.extend_from_slice(b"{\"commands\":[");
        for (index, command) in commands.enumerate() {
            if index > 0 {
                self.body.push(b',');
            }
            self.body.extend_from_slice(b"{\"command\":\"");
            self.body.extend_from_slice(command.verb().name().as_bytes());
            let key = match command {
                Command::Lookup(lookup) => Some(lookup.key),
                command => command.key(),
            };
            if let Some(key) = key {
                self.body.extend_from_slice(b"\",\"key\":\"");
                uuid(&mut self.body, key.bits);
                self.body.extend_from_slice(b"\",\"key_kind\":\"");
                self.body.extend_from_slice(kind_name(key.kind).as_bytes());
            }
            self.body.push(b'"');
            self.members(command, Part::Batch);
            self.body.push(b'}');
        }
        self.body.extend_from_slice(b"]}");
        out.extend_from_slice(b"POST /v1/batches");
        out.extend_from_slice(&self.post);
        self.finish(out);
    }

    /// The length and the body.
    fn finish(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Content-Length: ");
        decimal(out, self.body.len() as u128);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&self.body);
    }

    fn path_of_authorization(&mut self, authorization: u128, verb: &[u8]) {
        self.path.extend_from_slice(b"/v1/authorizations/");
        uuid(&mut self.path, authorization);
        self.path.push(b'/');
        self.path.extend_from_slice(verb);
    }

    fn path_of_command(&mut self, account: AccountId, key: Key) {
        self.path.extend_from_slice(b"/v1/accounts/");
        decimal(&mut self.path, api_account(account));
        self.path.extend_from_slice(b"/commands/");
        uuid(&mut self.path, key.bits);
    }

    /// A question without a body.
    fn asking(&self, out: &mut Vec<u8>, is_post: bool, kind: Option<KeyKind>) {
        out.extend_from_slice(if is_post { b"POST " } else { b"GET " });
        out.extend_from_slice(&self.path);
        out.extend_from_slice(&self.get);
        if let Some(kind) = kind {
            kind_header(out, kind);
        }
        out.extend_from_slice(if is_post { b"Content-Length: 0\r\n\r\n" } else { b"\r\n" });
    }

    /// The members of a command, each with its comma; a body of its own begins without one.
    fn members(&mut self, command: &Command, part: Part) {
        let mut members = Members { out: &mut self.body };
        match command {
            Command::OpenAccount(c) => {
                members.account("account", c.account);
                match c.settings.credit_limit {
                    CreditLimit::Unlimited => members.text("credit_limit", "unlimited"),
                    CreditLimit::Amount(limit) if limit.is_zero() => {}
                    CreditLimit::Amount(limit) => members.digits("credit_limit", limit.get()),
                }
                members.out.extend_from_slice(&self.denomination);
            }
            Command::Authorize(c) => {
                members.account("account", c.account);
                members.amount(c.amount, self.ledger, c.ledger, &self.denomination);
                members.optional("lifetime_ms", c.lifetime_ms);
                if c.allow_partial {
                    members.literal("allow_partial", "true");
                }
                if let Some(payee) = c.payee {
                    members.account("payee", payee);
                }
                members.optional("tolerance_bp", Some(u64::from(c.tolerance_bp)).filter(|bp| *bp > 0));
            }
            Command::Increment(c) => {
                members.path_id(part, c.authorization.0);
                members.amount(c.amount, self.ledger, self.ledger, &self.denomination);
                members.optional("lifetime_ms", c.lifetime_ms);
            }
            Command::Capture(c) => {
                members.path_id(part, c.authorization.0);
                members.account("payee", c.payee);
                members.amount(c.amount, self.ledger, self.ledger, &self.denomination);
                members.literal("is_final", if c.is_final { "true" } else { "false" });
            }
            Command::Void(c) => {
                members.path_id(part, c.authorization.0);
                if let Some(amount) = c.amount {
                    members.amount(amount, self.ledger, self.ledger, &self.denomination);
                }
            }
            Command::Refund(c) => {
                match c.target {
                    RefundTarget::Capture(id) => members.uuid("capture", id.0),
                    RefundTarget::Authorization(id) => members.uuid("authorization", id.0),
                }
                members.amount(c.amount, self.ledger, self.ledger, &self.denomination);
            }
            Command::Reverse(c) => {
                members.account("account", c.account);
                members.uuid("original", c.original.bits);
                members.text("original_kind", kind_name(c.original.kind));
                if let Some(total) = c.new_total {
                    members.digits("new_total", total.get());
                    members.out.extend_from_slice(&self.denomination);
                }
            }
            Command::Transfer(c) => {
                members.account("account", c.account);
                members.account("payee", c.payee);
                members.amount(c.amount, self.ledger, c.ledger, &self.denomination);
            }
            Command::Lookup(c) => members.account("account", c.account),
            _ => {}
        }
    }
}

/// Where members stand: what a route has in its path is a member in a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Body,
    Batch,
}

struct Members<'a> {
    out: &'a mut Vec<u8>,
}

impl Members<'_> {
    fn name(&mut self, name: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }

    fn digits(&mut self, name: &str, value: u128) {
        self.name(name);
        self.out.push(b'"');
        decimal(self.out, value);
        self.out.push(b'"');
    }

    fn literal(&mut self, name: &str, value: &str) {
        self.name(name);
        self.out.extend_from_slice(value.as_bytes());
    }

    fn optional(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.name(name);
            decimal(self.out, value.into());
        }
    }

    fn account(&mut self, name: &str, account: AccountId) {
        self.digits(name, api_account(account));
    }

    fn uuid(&mut self, name: &str, bits: u128) {
        self.name(name);
        self.out.push(b'"');
        uuid(self.out, bits);
        self.out.push(b'"');
    }

    fn path_id(&mut self, part: Part, authorization: u128) {
        if part == Part::Batch {
            self.uuid("authorization", authorization);
        }
    }

    /// With asset and scale; `usual` is the ledger whose text is there already.
    fn amount(&mut self, amount: Amount, usual: Ledger, ledger: Ledger, denomination: &[u8]) {
        self.digits("amount", amount.get());
        if ledger == usual {
            self.out.extend_from_slice(denomination);
        } else {
            self.text("asset", &ledger.asset());
            self.optional("scale", Some(ledger.scale().into()));
        }
    }
}

pub(super) const fn kind_name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::UuidV7 => "uuid_v7",
        KeyKind::Opaque => "opaque",
    }
}

/// Opaque is what a key is when nothing is said.
fn kind_header(out: &mut Vec<u8>, kind: KeyKind) {
    if kind == KeyKind::UuidV7 {
        out.extend_from_slice(b"Idempotency-Key-Kind: uuid_v7\r\n");
    }
}

/// A number in decimal.
fn decimal(out: &mut Vec<u8>, value: u128) {
    let mut digits = [0_u8; 20];
    let Ok(mut rest) = u64::try_from(value) else {
        let _ = write!(out, "{value}"); // into memory: never fails
        return;
    };
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// 128 bits as a UUID: 8-4-4-4-12 hexadecimal digits.
pub(super) fn uuid(out: &mut Vec<u8>, bits: u128) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (index, byte) in bits.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{account, funding, payee};
    use tpcore::{
        AuthorizationId, Authorize, Capture, Increment, Lookup, Note, OpenAccount, Read, Refund, Reverse, Settings,
        Transfer, TransferId, Void,
    };

    const HEAD: &str = " HTTP/1.1\r\nHost: h:1\r\nAuthorization: Bearer k\r\n";
    const POST: &str = "Content-Type: application/json\r\nTpcore-Deadline-Ms: 9\r\n";
    const U: &str = "00000000-0000-0000-0000-0000000000ff";

    fn encoder() -> Encoder {
        let key = BearerKey::from_argument("k").expect("a key");
        Encoder::new(&"http://h:1".parse().expect("a server"), Some(&key), 9)
    }

    fn posted(path: &str, body: &str) -> String {
        let key = format!("Idempotency-Key: {U}\r\nIdempotency-Key-Kind: uuid_v7\r\n");
        format!("POST {path}{HEAD}{POST}{key}Content-Length: {}\r\n\r\n{body}", body.len())
    }

    #[track_caller]
    fn check(command: impl Into<Command>, expected: &str) {
        let mut out = Vec::new();
        assert!(encoder().single(&mut out, &command.into()));
        assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
    }

    fn amount(n: u64) -> Amount {
        Amount::from(n)
    }

    #[test]
    fn every_command_is_written_as_the_protocol_has_it() {
        let (key, note) = (Key::uuid_v7(255), Note::default());
        let settings = Settings { credit_limit: CreditLimit::Unlimited, ..Settings::new(ledger()) };
        let open = OpenAccount { key, account: funding(7), settings, note: note.clone() };
        let body = r#"{"account":"3000000000007","credit_limit":"unlimited","asset":"EUR","scale":2}"#;
        check(open.clone(), &posted("/v1/accounts", body));
        let body = r#"{"account":"1000000000000","asset":"EUR","scale":2}"#;
        check(
            OpenAccount { account: account(0), settings: Settings::new(ledger()), ..open },
            &posted("/v1/accounts", body),
        );

        let mut authorize = Authorize::new(key, account(5), ledger(), amount(1250));
        let body = r#"{"account":"1000000000005","amount":"1250","asset":"EUR","scale":2}"#;
        check(authorize.clone(), &posted("/v1/authorizations", body));
        (authorize.lifetime_ms, authorize.allow_partial) = (Some(300), true);
        (authorize.payee, authorize.tolerance_bp) = (Some(payee(1)), 50);
        let body = r#"{"account":"1000000000005","amount":"1250","asset":"EUR","scale":2,"lifetime_ms":300,"allow_partial":true,"payee":"2000000000001","tolerance_bp":50}"#;
        check(authorize, &posted("/v1/authorizations", body));

        let authorization = AuthorizationId(255);
        let increment = Increment { key, authorization, amount: amount(1), lifetime_ms: None, note: note.clone() };
        let path = format!("/v1/authorizations/{U}");
        check(increment, &posted(&format!("{path}/increments"), r#"{"amount":"1","asset":"EUR","scale":2}"#));
        let capture =
            Capture { key, authorization, payee: payee(0), amount: amount(2), is_final: true, note: note.clone() };
        let body = r#"{"payee":"2000000000000","amount":"2","asset":"EUR","scale":2,"is_final":true}"#;
        check(capture, &posted(&format!("{path}/captures"), body));
        check(Void { key, authorization, amount: None, note: note.clone() }, &posted(&format!("{path}/voids"), "{}"));

        let refund =
            Refund { key, target: RefundTarget::Capture(TransferId(255)), amount: amount(3), note: note.clone() };
        let body = format!(r#"{{"capture":"{U}","amount":"3","asset":"EUR","scale":2}}"#);
        check(refund, &posted("/v1/refunds", &body));
        let reverse = Reverse { key, account: account(0), original: key, new_total: None, note: note.clone() };
        let body = format!(r#"{{"account":"1000000000000","original":"{U}","original_kind":"uuid_v7"}}"#);
        check(reverse, &posted("/v1/reversals", &body));
        let transfer =
            Transfer { key, account: account(0), payee: payee(0), ledger: ledger(), amount: Amount::MAX, note };
        let body = r#"{"account":"1000000000000","payee":"2000000000000","amount":"79228162514264337593543950335","asset":"EUR","scale":2}"#;
        check(transfer, &posted("/v1/transfers", body));
    }

    #[test]
    fn questions_have_no_body() {
        let key = Key::uuid_v7(255);
        let path = format!("/v1/accounts/1000000000009/commands/{U}");
        let kind = "Idempotency-Key-Kind: uuid_v7\r\n";
        check(Lookup { account: account(9), key, fence: false }, &format!("GET {path}{HEAD}{kind}\r\n"));
        let fence = format!("POST {path}/fence{HEAD}{kind}Content-Length: 0\r\n\r\n");
        check(Lookup { account: account(9), key, fence: true }, &fence);
        let read = Read { target: ReadTarget::Account(account(9)) };
        check(read, &format!("GET /v1/accounts/1000000000009{HEAD}\r\n"));
    }

    #[test]
    fn a_batch_names_verb_key_and_what_the_path_would_have() {
        let note = Note::default();
        let void = Void { key: Key::opaque(255), authorization: AuthorizationId(255), amount: Some(amount(4)), note };
        let lookup = Lookup { account: account(9), key: Key::uuid_v7(255), fence: false };
        let commands: [Command; 2] = [void.into(), lookup.into()];
        assert!(commands.iter().all(fits_batch));
        let mut out = Vec::new();
        encoder().batch(&mut out, commands.iter());
        let body = format!(
            r#"{{"commands":[{{"command":"void","key":"{U}","key_kind":"opaque","authorization":"{U}","amount":"4","asset":"EUR","scale":2}},{{"command":"lookup","key":"{U}","key_kind":"uuid_v7","account":"1000000000009"}}]}}"#
        );
        let expected = format!("POST /v1/batches{HEAD}{POST}Content-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
        assert!(!fits_batch(&Lookup { fence: true, ..lookup }.into()));
    }
}
