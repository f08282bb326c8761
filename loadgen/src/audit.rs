//! The audit: is every recorded acknowledgement in the journal, with the outcome and the number that were answered?
//!
//! Owns reading the file and walking the journal; refuses to trust the engine's own state.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tpcore::event::{Body, Event};
use tpcore::{AccountId, Key, KeyKind, Outcome, Seq, SlotIndex, TailReport, UpTo, View};

/// Findings shown one by one; of the rest only the number.
const SHOWN: usize = 10;

/// Whose key.
pub(crate) type Owned = (AccountId, Key);

/// What was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ack {
    pub(crate) outcome: Outcome,
    pub(crate) seq: u64,
}

/// What an audit found.
#[derive(Clone, Debug, Default)]
pub struct Audited {
    /// Different keys that were acknowledged.
    pub keys: u64,
    /// Those of them found as they were answered.
    pub found: u64,
    /// Lines of the file.
    pub lines: u64,
    /// Whether the last line was cut short, as a crash leaves it; it does not count.
    pub torn_line: bool,
    /// The server that was asked; `None`: it was a directory.
    pub server: Option<String>,
    /// Events of the journal.
    pub events: u64,
    /// How the journal ends.
    pub torn_tail: bool,
    /// What is wrong, the first ten.
    pub findings: Vec<String>,
    /// How much is wrong.
    pub wrong: u64,
}

impl Audited {
    /// Whether every acknowledgement is in the journal.
    pub const fn is_complete(&self) -> bool {
        self.wrong == 0 && self.found == self.keys
    }

    pub(crate) fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.wrong += 1;
        if self.findings.len() < SHOWN {
            self.findings.push(what());
        }
    }
}

impl fmt::Display for Audited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, found, lines, events, wrong, .. } = self;
        writeln!(f, "acknowledged  {keys} keys in {lines} lines")?;
        if self.torn_line {
            writeln!(f, "              the last line is cut short, as a crash leaves it, and does not count")?;
        }
        let torn = if self.torn_tail { ", a torn tail cut" } else { "" };
        match &self.server {
            Some(server) => writeln!(f, "server        {server}")?,
            None => writeln!(f, "journal       {events} events{torn}")?,
        }
        writeln!(f, "found         {found}")?;
        for finding in &self.findings {
            writeln!(f, "WRONG         {finding}")?;
        }
        write!(
            f,
            "verdict       {}",
            if self.is_complete() { "pass".to_owned() } else { format!("FAIL: {wrong} wrong") }
        )
    }
}

/// Audits a directory.
///
/// # Errors
/// When the file is not one of acknowledgements, or the directory cannot be read.
pub fn audit(data_dir: &Path, acks: &Path) -> Result<Audited> {
    let text = std::fs::read_to_string(acks).with_context(|| format!("cannot read {}", acks.display()))?;
    let mut audited = Audited::default();
    let mut wanted = read(&text, &mut audited).with_context(|| acks.display().to_string())?;
    audited.keys = wanted.len() as u64;
    let mut walk = Walk { wanted: &mut wanted, opened: HashMap::new(), audited: &mut audited };
    let view = View::replay(data_dir, UpTo::End, &mut |seq, event, _| {
        walk.event(seq, event);
        ControlFlow::Continue(())
    });
    let view = view.with_context(|| format!("cannot read the journal of {}", data_dir.display()))?;
    audited.events = view.last_seq().0;
    audited.torn_tail = !matches!(view.tail(), TailReport::Clean);
    let mut missing: Vec<_> = wanted.into_iter().collect();
    missing.sort_unstable_by_key(|(_, ack)| ack.seq);
    for ((_, key), ack) in missing {
        audited.wrong(|| {
            format!("key {:032x} was answered {} as event {}: not in the journal so", key.bits, ack.outcome, ack.seq)
        });
    }
    Ok(audited)
}

/// The acknowledgements by key. The same one twice must be the same.
pub(crate) fn read(text: &str, audited: &mut Audited) -> Result<HashMap<Owned, Ack>> {
    let mut wanted = HashMap::new();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    audited.torn_line = !text.is_empty() && !text.ends_with('\n');
    for (index, line) in whole.split_terminator('\n').enumerate() {
        let Some((owned, ack)) = parse(line) else {
            bail!("line {}: '{line}' is not an acknowledgement (key kind, key, account, outcome, seq)", index + 1);
        };
        audited.lines += 1;
        if let Some(first) = wanted.insert(owned, ack).filter(|first| *first != ack) {
            let key = owned.1.bits;
            audited.wrong(|| {
                let (was, is) = ((first.outcome, first.seq), (ack.outcome, ack.seq));
                format!("key {key:032x} was answered {} as event {}, then {} as event {}", was.0, was.1, is.0, is.1)
            });
        }
    }
    Ok(wanted)
}

fn parse(line: &str) -> Option<(Owned, Ack)> {
    let mut fields = line.split(',');
    let kind = match fields.next()? {
        "uuid_v7" => KeyKind::UuidV7,
        "opaque" => KeyKind::Opaque,
        _ => return None,
    };
    let bits = hexadecimal(fields.next()?)?;
    let account = AccountId(hexadecimal(fields.next()?)?);
    let name = fields.next()?;
    let outcome = Outcome::ALL.iter().copied().find(|outcome| outcome.name() == name)?;
    let seq = fields.next().filter(|digits| digits.starts_with(|c: char| ('1'..='9').contains(&c)))?.parse().ok()?;
    fields.next().is_none().then_some(((account, Key { bits, kind }), Ack { outcome, seq }))
}

/// Of 32 digits, as the recorder writes them: a line that it cannot have written is no acknowledgement.
fn hexadecimal(digits: &str) -> Option<u128> {
    let is_written = digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u128::from_str_radix(digits, 16).ok().filter(|_| is_written)
}

struct Walk<'a> {
    wanted: &'a mut HashMap<Owned, Ack>,
    /// Exchanges under way, by slot and number: their end is the answer.
    opened: HashMap<(SlotIndex, u64), Owned>,
    audited: &'a mut Audited,
}

impl Walk<'_> {
    fn event(&mut self, seq: Seq, event: &Event) {
        match &event.body {
            Body::Opened(opened) => {
                let owned = (opened.head.account, opened.head.full_key());
                self.opened.insert((opened.head.slot, opened.number), owned);
            }
            Body::Ended(ended) => {
                for end in &ended.ends {
                    if let Some(owned) = self.opened.remove(&(end.slot, end.number)) {
                        self.decided(owned, end.outcome, seq);
                    }
                }
            }
            Body::Fenced(fenced) => {
                let key = Key { bits: fenced.key, kind: fenced.key_kind };
                self.decided((fenced.account, key), Outcome::Fenced, seq);
            }
            body => {
                if let Some(head) = body.head() {
                    self.decided((head.account, head.full_key()), head.outcome, seq);
                }
            }
        }
    }

    fn decided(&mut self, owned: Owned, outcome: Outcome, seq: Seq) {
        // Another event of the same key (past its window) is not the one that was acknowledged.
        if self.wanted.get(&owned) == Some(&Ack { outcome, seq: seq.0 }) {
            self.wanted.remove(&owned);
            self.audited.found += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "uuid_v7,000000000000000000000000000000ff,00000000000000000000000000000001,approved,7";

    #[test]
    fn whole_lines_count_and_a_torn_one_does_not() {
        let mut audited = Audited::default();
        let wanted = read(&format!("{LINE}\nuuid_v7,00"), &mut audited).expect("reads");
        assert_eq!((wanted.len(), audited.lines, audited.torn_line), (1, 1, true));
        let key = (AccountId(1), Key { bits: 255, kind: KeyKind::UuidV7 });
        assert_eq!(wanted.get(&key), Some(&Ack { outcome: Outcome::Approved, seq: 7 }));
        assert!(read("", &mut Audited::default()).expect("reads").is_empty());
    }

    #[test]
    fn one_key_with_two_answers_is_wrong() {
        let mut audited = Audited::default();
        let other = LINE.replace(",7", ",8");
        read(&format!("{LINE}\n{LINE}\n"), &mut audited).expect("reads");
        assert_eq!(audited.wrong, 0);
        read(&format!("{LINE}\n{other}\n"), &mut audited).expect("reads");
        assert!(audited.wrong == 1 && !audited.is_complete());
    }

    #[test]
    fn what_is_no_acknowledgement_is_refused() {
        for bad in [
            "x\n",
            "uuid_v7,zz,1,approved,1\n",
            "uuid_v7,1,1,perhaps,1\n",
            "uuid_v7,1,1,approved,1,2\n",
            ",,,,\n",
            "\n\n",
            "\n", // once taken for a file without lines
            // A sign for the first digit, another case, another end of line, no number: once taken for the line they were.
            &format!("{}\n", LINE.replacen(",0", ",+", 1)),
            &format!("{}\n", LINE.replace("ff", "FF")),
            &format!("{LINE}\r\n"),
            &format!("{}\n", LINE.replace(",7", ",0")),
        ] {
            assert!(read(bad, &mut Audited::default()).is_err(), "{bad:?}");
        }
    }
}
