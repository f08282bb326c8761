//! Answers: what of a message comes back, and what the reply adds.
//!
//! Owns elements 38, 39, 54 and the echo of what names the transaction. Refuses to give back anything of a card but the number that the
//! sender itself sent (element 2): no track, no PIN data, no chip data, no private element.

use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::{Detail, Reply};
use tp_iso8583::{Elements, Layout, Message, currency_of};

use super::codes::Code;

/// Elements that come back as they came (ISO 8583:1987, table of message types: mandatory echo and conditional ones).
const ECHOED: Elements = Elements::of(&[2, 3, 4, 7, 11, 12, 13, 15, 32, 33, 37, 41, 42, 49, 50, 70, 90, 95]);

/// Begins an answer; `false`: the message asks for none.
pub(super) fn begin(request: &Message, answer: &mut Message) -> bool {
    let Some(mti) = request.mti().response() else { return false };
    answer.clear(mti);
    answer.echo(request, ECHOED);
    true
}

/// Puts an element in, where the layout has it.
pub(super) fn put(layout: &Layout, answer: &mut Message, element: usize, value: &str) {
    if layout.element(element).is_some() {
        answer.set(element, value.as_bytes());
    }
}

/// Puts in what a reply says.
pub(super) fn filled(layout: &Layout, answer: &mut Message, reply: &Reply) {
    let code = Code::of(reply);
    put(layout, answer, 39, code.0);
    let is_authorized = answer.mti().function() == 1 && answer.mti().class() != 4 && reply.detail.is_none();
    if reply.outcome.is_approval() && code != Code::LATE && is_authorized && reply.seq.0 > 0 {
        put(layout, answer, 38, &approval_code(reply.seq.0));
    }
    if reply.outcome == Outcome::ApprovedPartially {
        let asked = answer.text(4).unwrap_or_default().to_owned();
        put(layout, answer, 4, &format!("{:012}", reply.amount.get()));
        let currency = answer.get(49).and_then(currency_of).map_or(0, |currency| currency.numeric);
        let original = additional(currency, ORIGINAL_AMOUNT, false, asked.parse().unwrap_or(0));
        put(layout, answer, 54, &original);
    }
    if let Some(Detail::Account(view)) = reply.detail.as_deref() {
        let asset = view.settings.ledger.asset();
        let currency = currency_of(asset.as_bytes()).map_or(0, |currency| currency.numeric);
        let posted = signed(view.balances.posted);
        let available = view.balances.available.map(signed);
        let each = [Some((LEDGER_BALANCE, posted)), available.map(|available| (AVAILABLE_BALANCE, available))];
        let text: String = each
            .into_iter()
            .flatten()
            .map(|(kind, (is_debit, amount))| additional(currency, kind, is_debit, amount))
            .collect();
        put(layout, answer, 54, &text);
    }
}

/// Makes an answer a refusal.
pub(super) fn refused(layout: &Layout, answer: &mut Message, code: Code) {
    answer.remove(38);
    answer.remove(54);
    put(layout, answer, 39, code.0);
}

/// Amount types of element 54 (ISO 8583:1993, table of amount types).
const LEDGER_BALANCE: &str = "01";
const AVAILABLE_BALANCE: &str = "02";
const ORIGINAL_AMOUNT: &str = "57";

/// One additional amount: account type, amount type, currency, `C` or `D`, twelve digits. Empty where the amount has more.
fn additional(currency: u16, kind: &str, is_debit: bool, amount: u128) -> String {
    let sign = if is_debit { 'D' } else { 'C' };
    if amount > 999_999_999_999 { String::new() } else { format!("00{kind}{currency:03}{sign}{amount:012}") }
}

fn signed(amount: i128) -> (bool, u128) {
    (amount < 0, amount.unsigned_abs())
}

/// Six characters of base 36 that stand for the event: it is found again by them within some two billion events.
fn approval_code(seq: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut rest = seq;
    let mut code = ['0'; 6];
    for place in code.iter_mut().rev() {
        *place = char::from(DIGITS[usize::try_from(rest % 36).unwrap_or(0)]);
        rest /= 36;
    }
    code.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tp_iso8583::Mti;

    #[test]
    fn an_answer_has_what_names_the_transaction_and_nothing_secret() {
        let mut request = Message::new(Mti::from_digits(*b"0101").expect("digits"));
        for element in 2..=128 {
            request.set(element, b"1");
        }
        let mut answer = Message::new(Mti::NONE);
        assert!(begin(&request, &mut answer));
        assert_eq!(answer.mti().text(), "0110");
        assert!(answer.elements().eq((2..=128).filter(|element| ECHOED.has(*element))));
        assert!(!begin(&answer, &mut request), "an answer has no answer");
    }

    #[test]
    fn approval_codes_are_six_characters_and_differ() {
        assert_eq!((approval_code(1), approval_code(36)), ("000001".to_owned(), "000010".to_owned()));
        assert_eq!(approval_code(u64::MAX).len(), 6);
    }
}
