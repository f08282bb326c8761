//! Structured fields (RFC 9651), the part that signatures need: a dictionary whose members are inner lists of strings or byte
//! sequences, with parameters. Owns parsing and serialization. Refuses to know what members mean.
//!
//! Strict: other types (decimals, dates, display strings) and members of other forms are refused, and so is a key that comes twice
//! (RFC 9651 keeps the last; here two readers could then disagree about what was signed).
//! Total and bounded: one pass, no recursion, at most [`MEMBERS_MAX`] members, [`ITEMS_MAX`] items and [`PARAMETERS_MAX`] parameters.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Most members of a dictionary.
pub const MEMBERS_MAX: usize = 8;
/// Most items of an inner list.
pub const ITEMS_MAX: usize = 32;
/// Most parameters of an item or an inner list.
pub const PARAMETERS_MAX: usize = 16;
/// Largest integer (RFC 9651, 3.3.1): 15 digits.
pub const INTEGER_MAX: i64 = 999_999_999_999_999;
const INTEGER_DIGITS_MAX: usize = 15;

/// The text is not a structured field of the form that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a structured field of the expected form, at byte {at}")]
pub struct FieldError {
    /// Where reading stopped, in bytes.
    pub at: usize,
}

/// A bare item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bare {
    /// `123`: at most 15 digits.
    Integer(i64),
    /// `"text"`: printable ASCII.
    String(String),
    /// `token`.
    Token(String),
    /// `:base64:`.
    Bytes(Vec<u8>),
    /// `?0` or `?1`.
    Boolean(bool),
}

/// Parameters in the order in which they came.
pub type Parameters = Vec<(String, Bare)>;

/// The value of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// `("a" "b";p)`: strings with their parameters.
    Strings(Vec<(String, Parameters)>),
    /// `:base64:`.
    Bytes(Vec<u8>),
}

/// One member of a dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its value.
    pub member: Member,
    /// The parameters of the value.
    pub parameters: Parameters,
}

/// Reads a dictionary. Members keep their order; an empty text is an empty dictionary.
///
/// # Errors
/// [`FieldError`] for anything else, and for more than the bounds.
pub fn dictionary(text: &str) -> Result<Vec<Entry>, FieldError> {
    let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
    let mut entries: Vec<Entry> = Vec::new();
    reader.skip(b" ");
    while !reader.done() {
        let entry = reader.entry()?;
        if entries.len() == MEMBERS_MAX || entries.iter().any(|other| other.key == entry.key) {
            return Err(reader.error());
        }
        entries.push(entry);
        reader.skip(b" \t");
        if reader.done() {
            break;
        }
        reader.expect(b',')?;
        reader.skip(b" \t");
        if reader.done() {
            return Err(reader.error()); // a trailing comma
        }
    }
    Ok(entries)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self) -> FieldError {
        FieldError { at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn next(&mut self) -> Result<u8, FieldError> {
        let byte = self.peek().ok_or(self.error())?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, expected: u8) -> Result<(), FieldError> {
        if self.peek() != Some(expected) {
            return Err(self.error());
        }
        self.at += 1;
        Ok(())
    }

    fn skip(&mut self, set: &[u8]) {
        while self.peek().is_some_and(|byte| set.contains(&byte)) {
            self.at += 1;
        }
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let from = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        &self.bytes[from..self.at]
    }

    fn entry(&mut self) -> Result<Entry, FieldError> {
        let key = self.key()?;
        self.expect(b'=')?;
        let member = match self.peek() {
            Some(b'(') => Member::Strings(self.strings()?),
            Some(b':') => Member::Bytes(self.base64()?),
            _ => return Err(self.error()),
        };
        Ok(Entry { key, member, parameters: self.parameters()? })
    }

    fn key(&mut self) -> Result<String, FieldError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'*') {
            return Err(self.error());
        }
        Ok(ascii(self.take_while(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.' | b'*')
        })))
    }

    fn strings(&mut self) -> Result<Vec<(String, Parameters)>, FieldError> {
        self.expect(b'(')?;
        let mut items = Vec::new();
        loop {
            self.skip(b" ");
            if self.peek() == Some(b')') {
                self.at += 1;
                return Ok(items);
            }
            if items.len() == ITEMS_MAX {
                return Err(self.error());
            }
            items.push((self.string()?, self.parameters()?));
            if !matches!(self.peek(), Some(b' ' | b')')) {
                return Err(self.error());
            }
        }
    }

    fn parameters(&mut self) -> Result<Parameters, FieldError> {
        let mut parameters = Parameters::new();
        while self.peek() == Some(b';') {
            self.at += 1;
            self.skip(b" ");
            let key = self.key()?;
            let value = if self.peek() == Some(b'=') {
                self.at += 1;
                self.bare()?
            } else {
                Bare::Boolean(true)
            };
            if parameters.len() == PARAMETERS_MAX || parameters.iter().any(|(other, _)| *other == key) {
                return Err(self.error());
            }
            parameters.push((key, value));
        }
        Ok(parameters)
    }

    fn bare(&mut self) -> Result<Bare, FieldError> {
        match self.peek().ok_or(self.error())? {
            b'"' => self.string().map(Bare::String),
            b':' => self.base64().map(Bare::Bytes),
            b'?' => self.boolean().map(Bare::Boolean),
            b'-' | b'0'..=b'9' => self.integer().map(Bare::Integer),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => Ok(Bare::Token(ascii(self.take_while(is_token)))),
            _ => Err(self.error()),
        }
    }

    fn string(&mut self) -> Result<String, FieldError> {
        self.expect(b'"')?;
        let mut text = String::new();
        loop {
            match self.next()? {
                b'"' => return Ok(text),
                b'\\' => match self.next()? {
                    escaped @ (b'"' | b'\\') => text.push(char::from(escaped)),
                    _ => return Err(self.error()),
                },
                plain @ 0x20..=0x7e => text.push(char::from(plain)),
                _ => return Err(self.error()),
            }
        }
    }

    /// Canonical base64 only: padded, no spare bits. So one value has one text.
    fn base64(&mut self) -> Result<Vec<u8>, FieldError> {
        self.expect(b':')?;
        let text = self.take_while(|byte| byte != b':');
        self.expect(b':')?;
        STANDARD.decode(text).map_err(|_| self.error())
    }

    fn boolean(&mut self) -> Result<bool, FieldError> {
        self.expect(b'?')?;
        match self.next()? {
            b'0' => Ok(false),
            b'1' => Ok(true),
            _ => Err(self.error()),
        }
    }

    fn integer(&mut self) -> Result<i64, FieldError> {
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        // A decimal point ends here: what follows it is refused by the caller.
        if digits.is_empty() || digits.len() > INTEGER_DIGITS_MAX {
            return Err(self.error());
        }
        let value = digits.iter().fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'));
        Ok(if negative { -value } else { value })
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
}

/// Of bytes that were checked to be ASCII.
fn ascii(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Writes an inner list of strings with its parameters (RFC 9651, 4.1.1.1): the value of `@signature-params`.
pub fn write_strings(out: &mut String, items: &[(String, Parameters)], parameters: &Parameters) {
    out.push('(');
    for (at, (item, own)) in items.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        write_string(out, item);
        write_parameters(out, own);
    }
    out.push(')');
    write_parameters(out, parameters);
}

/// Writes a string in its quotes.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
}

/// Writes `:base64:`.
pub fn write_bytes(out: &mut String, bytes: &[u8]) {
    out.push(':');
    STANDARD.encode_string(bytes, out);
    out.push(':');
}

fn write_parameters(out: &mut String, parameters: &Parameters) {
    for (key, value) in parameters {
        out.push(';');
        out.push_str(key);
        if *value != Bare::Boolean(true) {
            out.push('=');
            write_bare(out, value);
        }
    }
}

fn write_bare(out: &mut String, value: &Bare) {
    match value {
        // Writing to a `String` does not fail.
        Bare::Integer(number) => drop(write!(out, "{number}")),
        Bare::String(text) => write_string(out, text),
        Bare::Token(text) => out.push_str(text),
        Bare::Bytes(bytes) => write_bytes(out, bytes),
        Bare::Boolean(value) => out.push_str(if *value { "?1" } else { "?0" }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(entries: &[Entry]) -> String {
        let mut out = String::new();
        for (at, entry) in entries.iter().enumerate() {
            if at > 0 {
                out.push_str(", ");
            }
            out.push_str(&entry.key);
            out.push('=');
            match &entry.member {
                Member::Strings(items) => write_strings(&mut out, items, &entry.parameters),
                Member::Bytes(bytes) => {
                    write_bytes(&mut out, bytes);
                    write_parameters(&mut out, &entry.parameters);
                }
            }
        }
        out
    }

    #[test]
    fn a_dictionary_comes_back_as_it_was_written() {
        for text in [
            "",
            "sig1=();created=1",
            r#"sig=("@method" "a";sf;key="b\"\\c");created=-5;alg="x";t=to/ken:;b=?0;y=:AAE=:"#,
            "a=:AQID:, b=:BAU=:;p, *c=::",
        ] {
            assert_eq!(text_of(&dictionary(text).unwrap()), text);
        }
    }

    #[test]
    fn spaces_are_taken_where_the_grammar_has_them() {
        let entries = dictionary("  a=( \"x\"   \"y\" );  p=1 \t,\tb=:AA==: ").unwrap();
        assert_eq!(text_of(&entries), r#"a=("x" "y");p=1, b=:AA==:"#);
    }

    #[test]
    fn what_is_no_such_dictionary_is_refused() {
        for text in [
            "a",
            "a=",
            "a=1",
            "a=b",
            "A=()",
            "a=(",
            "a=()b",
            "a=(1)",
            "a=(x)",
            r#"a=("x""y")"#,
            r#"a=("x)"#,
            "a=();",
            "a=();=1",
            "a=();P",
            "a=(),",
            "a=(),,b=()",
            "a=(),a=()",
            "a=();p=1;p=1",
            "a=();p=1.5",
            "a=();p=1234567890123456",
            "a=();p=-",
            "a=();p=?2",
            "a=();p=@1",
            "a=:A:",
            "a=:AB==:",
            "a=:AA=:",
            "a=:AA==",
            r#"a=("\x")"#,
            "a=(\"\u{e9}\")",
            "a=(\"\t\")",
            "\ta=()",
            "é",
            ",",
            "a=()\n",
        ] {
            assert!(dictionary(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_count_is_bounded() {
        let list = |count: usize| format!("a=({})", vec!["\"x\""; count].join(" "));
        let parameters = |count: usize| (0..count).fold("a=()".to_owned(), |text, n| format!("{text};p{n}"));
        let members = |count: usize| (0..count).map(|n| format!("a{n}=()")).collect::<Vec<_>>().join(",");
        for (largest, make) in
            [(ITEMS_MAX, &list as &dyn Fn(usize) -> String), (PARAMETERS_MAX, &parameters), (MEMBERS_MAX, &members)]
        {
            assert!(dictionary(&make(largest)).is_ok());
            assert!(dictionary(&make(largest + 1)).is_err());
        }
    }

    /// Texts near the grammar: random pieces of it.
    fn near_the_grammar() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[ -~]{0,3}",
            Just("sig=(".to_owned()),
            Just("\"@method\"".to_owned()),
            Just(")".to_owned()),
            Just(";created=1618884473".to_owned()),
            Just(";k=\"v\"".to_owned()),
            Just(":AAEC:".to_owned()),
            Just(", ".to_owned()),
            any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_has_one_text(text in near_the_grammar()) {
            if let Ok(entries) = dictionary(&text) {
                let canonical = text_of(&entries);
                prop_assert_eq!(dictionary(&canonical).unwrap(), entries);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in any::<String>()) {
            let _ = dictionary(&text);
        }
    }
}
