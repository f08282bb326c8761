//! The card edge from outside: the real binary, links, messages.
#![cfg(feature = "serve")]

#[path = "support/cards.rs"]
mod cards;
#[path = "support/gateway.rs"]
mod support;

use cards::{Link, listeners, message, original, pay_until_the_end, setting, transaction};
use support::Gateway;
use tempfile::TempDir;

/// A server with two listeners, and links to them.
struct Place {
    _folder: TempDir,
    gateway: Gateway,
}

fn place(more: &str) -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let file = listeners(folder.path(), more);
    let gateway = Gateway::dev(&folder.path().join("data"), &["--set", &setting(&file)]);
    Place { _folder: folder, gateway }
}

impl Place {
    fn ascii(&self) -> Link {
        Link::open(self.gateway.cards[0].1, "1987-ascii")
    }
    fn bcd(&self) -> Link {
        Link::open(self.gateway.cards[1].1, "1987-bcd")
    }
    fn card(&self) -> &str {
        &self.gateway.first_card
    }
    /// Posted and held of an account.
    fn stands(&self, account: &str) -> (String, String) {
        let shown = self.gateway.get(&self.gateway.key, &format!("/v1/accounts/{account}")).json();
        let of = |name: &str| shown["balances"][name].as_str().expect("an amount").to_owned();
        (of("posted"), of("held"))
    }
    fn assert_stands(&self, account: &str, posted: &str, held: &str) {
        assert_eq!(self.stands(account), (posted.to_owned(), held.to_owned()), "account {account}");
    }
}

#[test]
fn a_purchase_is_authorized_completed_and_every_repeat_has_the_first_answer() {
    let place = place("");
    let (mut ascii, mut bcd) = (place.ascii(), place.bcd());
    for link in [&mut ascii, &mut bcd] {
        assert_eq!(link.code(&message("0800", &[(7, "1127101010"), (11, "000001"), (70, "001")])), "00");
        assert_eq!(link.code(&message("0800", &[(7, "1127101010"), (11, "000002"), (70, "301")])), "00");
    }
    let asked = transaction("0100", place.card(), 10, 2500, &[(35, &format!("{}=29121010000", place.card()))]);
    let answer = ascii.call(&asked);
    assert_eq!((answer.mti().text(), answer.text(39), answer.text(4)), ("0110", Some("00"), Some("000000002500")));
    let approval = answer.text(38).expect("an approval code").to_owned();
    assert!(answer.get(35).is_none(), "no track comes back");
    place.assert_stands("1", "1000000", "2500");
    // Again, by another listener and layout: the same transaction.
    let again = bcd.call(&transaction("0101", place.card(), 10, 2500, &[]));
    assert_eq!((again.text(39), again.text(38)), (Some("00"), Some(approval.as_str())));
    place.assert_stands("1", "1000000", "2500");
    // Another amount under the same STAN is no repeat.
    assert_eq!(ascii.code(&transaction("0101", place.card(), 10, 2501, &[])), "94");

    let completion = |mti| transaction(mti, place.card(), 10, 2000, &[(90, &original("0100", 10)), (38, &approval)]);
    assert_eq!(ascii.code(&completion("0220")), "00");
    place.assert_stands("1", "998000", "0");
    place.assert_stands("900", "2000", "0");
    assert_eq!(bcd.code(&completion("0221")), "00");
    place.assert_stands("900", "2000", "0");
}

#[test]
fn refusals_have_the_codes_of_their_reasons() {
    let place = place("acquirers = ['12345']\npartial = { element = 60, at = 9, value = '1' }");
    let mut link = place.ascii();
    let card = place.card().to_owned();
    let mut stan = 100;
    let mut code = |amount: u64, more: &[(usize, &str)]| {
        stan += 1;
        link.code(&transaction("0100", &card, stan, amount, more))
    };
    assert_eq!(code(1_000_001, &[]), "51");
    assert_eq!(code(100, &[(2, "4111111111111111")]), "14", "no card of the tenant");
    assert_eq!(code(100, &[(2, "4111111111111112")]), "14", "no check digit");
    assert_eq!(code(100, &[(49, "840")]), "12", "the account is in EUR");
    assert_eq!(code(100, &[(49, "999")]), "12");
    assert_eq!(code(100, &[(3, "900000")]), "12");
    assert_eq!(code(100, &[(32, "99999")]), "31");
    assert_eq!(code(100, &[(14, "2001")]), "54");
    assert_eq!(code(0, &[]), "85", "an account check");
    assert_eq!(code(1_000_001, &[(60, "0000000001")]), "10");
    place.assert_stands("1", "1000000", "1000000");
    let key = &place.gateway.key;
    let cards = place.gateway.get(key, "/v1/cards").json();
    let of_one = |card: &&serde_json::Value| card["account"] == "1";
    let token = cards["cards"].as_array().expect("cards").iter().find(of_one).expect("one")["card"].clone();
    let path = format!("/v1/cards/{}", token.as_str().expect("text"));
    assert_eq!(place.gateway.call(key, "PATCH", &path, &[], r#"{"status":"blocked"}"#).status, 200);
    assert_eq!(code(0, &[]), "62");
    // What was approved before the card was blocked is answered as it was.
    let mut link = place.ascii();
    assert_eq!(link.code(&transaction("0101", &card, 110, 1_000_001, &[(60, "0000000001")])), "10");
    assert_eq!(link.code(&transaction("0101", &card, 109, 0, &[])), "85");
}

#[test]
fn a_partial_approval_says_what_was_approved_and_what_was_asked_for() {
    let place = place("partial = { element = 60, at = 9, value = '1' }");
    let answer = place.bcd().call(&transaction("0100", place.card(), 1, 1_200_000, &[(60, "0000000001")]));
    assert_eq!((answer.text(39), answer.text(4)), (Some("10"), Some("000001000000")));
    assert_eq!(answer.text(54), Some("0057978C000001200000"));
}

#[test]
fn an_inquiry_shows_the_balances() {
    let place = place("");
    let mut link = place.ascii();
    assert_eq!(link.code(&transaction("0100", place.card(), 1, 2500, &[])), "00");
    let answer = link.call(&transaction("0100", place.card(), 2, 0, &[(3, "310000")]));
    assert_eq!((answer.text(39), answer.text(54)), (Some("00"), Some("0001978C0000010000000002978C000000997500")));
}

#[test]
fn reversals_undo_before_and_after_their_original_and_down_to_an_amount() {
    let place = place("");
    let mut link = place.ascii();
    let card = place.card().to_owned();
    let reversal = |mti, of: &str, stan, more: &[(usize, &str)]| {
        let named = original(of, stan);
        let mut all = vec![(90, named.as_str())];
        all.extend_from_slice(more);
        transaction(mti, &card, stan, 3000, &all)
    };
    // After it, twice.
    assert_eq!(link.code(&transaction("0100", &card, 1, 3000, &[])), "00");
    assert_eq!(link.code(&reversal("0400", "0100", 1, &[])), "00");
    place.assert_stands("1", "1000000", "0");
    assert_eq!(link.code(&reversal("0401", "0100", 1, &[])), "00");
    assert_eq!(link.code(&reversal("0421", "0100", 1, &[])), "00", "asked for and reported: the same undoing");
    // A repeat of what was undone is no approval.
    assert_eq!(link.code(&transaction("0101", &card, 1, 3000, &[])), "68");
    // Before it.
    assert_eq!(link.code(&reversal("0420", "0100", 2, &[])), "00");
    assert_eq!(link.code(&transaction("0100", &card, 2, 3000, &[])), "94");
    place.assert_stands("1", "1000000", "0");
    // Down to an amount.
    assert_eq!(link.code(&transaction("0100", &card, 3, 3000, &[])), "00");
    let replacement = format!("{:012}{:030}", 1000, 0);
    assert_eq!(link.code(&reversal("0400", "0100", 3, &[(95, &replacement)])), "00");
    place.assert_stands("1", "1000000", "1000");
    // Of a purchase that was paid at once, and of a refund.
    assert_eq!(link.code(&transaction("0200", &card, 4, 3000, &[])), "00");
    place.assert_stands("900", "3000", "0");
    assert_eq!(link.code(&reversal("0400", "0200", 4, &[])), "00");
    place.assert_stands("900", "0", "0");
    assert_eq!(link.code(&transaction("0200", &card, 5, 3000, &[(3, "200000")])), "00");
    place.assert_stands("1", "1003000", "1000");
    assert_eq!(link.code(&reversal("0400", "0200", 5, &[(3, "200000")])), "00");
    place.assert_stands("1", "1000000", "1000");
    // Without an original it is none.
    assert_eq!(link.code(&transaction("0400", &card, 6, 3000, &[])), "30");
}

#[test]
fn advices_are_booked_whatever_stands_against_them() {
    let place = place("");
    let mut link = place.bcd();
    let card = place.card().to_owned();
    assert_eq!(link.code(&transaction("0120", &card, 1, 1_500_000, &[(39, "00")])), "00");
    place.assert_stands("1", "1000000", "1500000");
    assert_eq!(link.code(&transaction("0121", &card, 1, 1_500_000, &[(39, "00")])), "00");
    assert_eq!(link.code(&transaction("0120", &card, 2, 700, &[(39, "51")])), "00", "declined elsewhere: recorded");
    place.assert_stands("1", "1000000", "1500000");
    // An original that is not known, and a card that is not.
    assert_eq!(link.code(&transaction("0220", &card, 3, 900, &[(90, &original("0100", 99))])), "00");
    place.assert_stands("900", "900", "0");
    assert_eq!(link.code(&transaction("0220", "4111111111111111", 4, 100, &[])), "00");
    place.assert_stands("900", "1000", "0");
    // The hold of the stand-in, completed: it is released.
    place.assert_stands("1", "999100", "1500000");
    assert_eq!(
        link.code(&transaction("0220", &card, 5, 500, &[(37, "RRN000000001"), (90, &original("0120", 1))])),
        "00"
    );
    place.assert_stands("1", "998600", "0");
}

#[test]
fn what_was_decided_stays_with_its_account_when_the_card_is_closed_or_becomes_known() {
    let place = place("");
    let mut link = place.ascii();
    let (key, card) = (place.gateway.key.clone(), place.card().to_owned());
    let close = || {
        let cards = place.gateway.get(&key, "/v1/cards").json();
        let of_one = |card: &&serde_json::Value| card["account"] == "1" && card["status"] == "active";
        let token = cards["cards"].as_array().expect("cards").iter().find(of_one).expect("one")["card"].clone();
        let path = format!("/v1/cards/{}", token.as_str().expect("text"));
        assert_eq!(place.gateway.call(&key, "PATCH", &path, &[], r#"{"status":"closed"}"#).status, 200);
    };
    let add = |number: &str, account: &str| {
        let body = format!(r#"{{"card_number":"{number}","account":"{account}"}}"#);
        assert_eq!(place.gateway.call(&key, "POST", "/v1/cards", &[], &body).status, 201);
    };
    assert_eq!(link.code(&transaction("0100", &card, 1, 3000, &[])), "00");
    assert_eq!(link.code(&transaction("0200", &card, 2, 500, &[])), "00");
    assert_eq!(link.code(&transaction("0220", &card, 3, 700, &[])), "00");
    close();
    let check = |link: &mut Link| {
        assert_eq!(link.code(&transaction("0100", &card, 9, 1, &[])), "14", "a closed card");
        assert_eq!(link.code(&transaction("0201", &card, 2, 500, &[])), "00", "its repeat");
        assert_eq!(link.code(&transaction("0221", &card, 3, 700, &[])), "00", "posted once");
        place.assert_stands("900", "1200", "0");
    };
    check(&mut link);
    // The number comes again, for another account: what was before stays where it was.
    add(&card, "2");
    assert_eq!(link.code(&transaction("0201", &card, 2, 500, &[])), "00");
    assert_eq!(link.code(&transaction("0221", &card, 3, 700, &[])), "00");
    assert_eq!(
        link.code(&transaction("0220", &card, 4, 2500, &[(37, "RRN000000001"), (90, &original("0100", 1))])),
        "00"
    );
    place.assert_stands("1", "996300", "0");
    assert_eq!(link.code(&transaction("0400", &card, 2, 500, &[(90, &original("0200", 2))])), "00");
    place.assert_stands("1", "996800", "0");
    place.assert_stands("2", "1000000", "0");
    // A card that is known only after what others decided for it.
    let late = "4111111111111111";
    assert_eq!(link.code(&transaction("0220", late, 20, 100, &[])), "00");
    place.assert_stands("900", "3300", "0");
    add(late, "3");
    assert_eq!(link.code(&transaction("0221", late, 20, 100, &[])), "00");
    place.assert_stands("900", "3300", "0");
    assert_eq!(link.code(&transaction("0420", late, 20, 100, &[(90, &original("0220", 20))])), "00");
    place.assert_stands("900", "3200", "0");
    place.assert_stands("3", "1000000", "0");
}

#[test]
fn the_original_of_a_posting_may_come_after_it_and_its_repeat_stays_the_same_posting() {
    let place = place("");
    let mut link = place.ascii();
    let card = place.card().to_owned();
    let posting = |mti| transaction(mti, &card, 7, 900, &[(90, &original("0100", 7))]);
    assert_eq!(link.code(&posting("0220")), "00");
    assert_eq!(link.code(&transaction("0100", &card, 7, 900, &[])), "00");
    assert_eq!(link.code(&posting("0221")), "00");
    place.assert_stands("1", "999100", "900");
    place.assert_stands("900", "900", "0");
}

#[test]
fn what_cannot_be_read_is_answered_30_and_what_is_no_message_ends_the_link() {
    let place = place("message_bytes_max = 600");
    let mut link = place.ascii();
    let frame = |body: &[u8]| [&u16::try_from(body.len()).expect("short").to_be_bytes()[..], body].concat();
    // An amount with a letter: what was read before it comes back.
    let mut request = Vec::new();
    let layout = tp_iso8583::Layout::named("1987-ascii").expect("it comes along");
    layout.encode(&transaction("0100", place.card(), 1, 2500, &[]), &mut request).expect("it fits");
    let at = request.windows(12).position(|twelve| twelve == b"000000002500").expect("the amount");
    request[at] = b'x';
    link.send_bytes(&frame(&request));
    let answer = link.answer().expect("an answer");
    assert_eq!((answer.mti().text(), answer.text(39), answer.text(3)), ("0110", Some("30"), Some("000000")));
    // Empty frames say that the peer is there; answers to nothing are passed over.
    link.send_bytes(&[0, 0, 0, 0]);
    link.send(&message("0810", &[(11, "000001")]));
    assert_eq!(link.code(&message("0800", &[(7, "1127101010"), (11, "000009"), (70, "301")])), "00");
    assert_eq!(link.code(&message("0800", &[(7, "1127101010"), (11, "000009")])), "30", "element 70 is missing");
    assert_eq!(link.code(&message("0600", &[(7, "1127101010"), (11, "000009")])), "12");
    for (what, bytes) in [("noise", frame(b"GET / HTTP/1.1")), ("a frame that is too long", vec![0xFF; 4])] {
        let mut link = place.ascii();
        link.send_bytes(&bytes);
        assert!(link.answer().is_none(), "{what}");
    }
    place.assert_stands("1", "1000000", "0");
}

#[test]
fn a_link_that_has_to_sign_on_is_answered_91_before_it_has() {
    let place = place("sign_on = true");
    let mut link = place.ascii();
    let manage = |code: &str| message("0800", &[(7, "1127101010"), (11, "000001"), (70, code)]);
    let card = place.card().to_owned();
    assert_eq!(link.code(&transaction("0100", &card, 1, 100, &[])), "91");
    assert_eq!(link.code(&manage("001")), "00");
    assert_eq!(link.code(&transaction("0100", &card, 1, 100, &[])), "00");
    assert_eq!(link.code(&manage("002")), "00");
    assert_eq!(link.code(&transaction("0100", &card, 2, 100, &[])), "91");
    assert_eq!(link.code(&manage("777")), "12");
}

#[test]
fn a_link_that_is_shut_is_answered_what_it_sent() {
    let place = place("in_flight_max = 4");
    let mut link = place.ascii();
    for stan in 1..=200 {
        link.send(&transaction("0100", place.card(), stan, 1, &[]));
    }
    link.shut();
    let mut stans: Vec<u64> = Vec::new();
    while let Some(answer) = link.answer() {
        assert_eq!(answer.text(39), Some("00"));
        stans.push(answer.number(11).expect("a STAN"));
    }
    stans.sort_unstable();
    assert!(stans.into_iter().eq(1..=200));
    place.assert_stands("1", "1000000", "200");
}

#[test]
fn the_days_totals_are_what_was_booked_and_begin_anew_at_the_cut_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = listeners(folder.path(), "");
    let start = || Gateway::dev(&folder.path().join("data"), &["--set", &setting(&file)]);
    let gateway = start();
    let mut link = Link::open(gateway.cards[0].1, "1987-ascii");
    let card = gateway.first_card.clone();
    for (stan, amount, mti, processing) in [
        (1, 3000, "0200", "000000"),
        (2, 500, "0200", "000000"),
        (3, 700, "0200", "200000"),
        (4, 100, "0100", "000000"),
    ] {
        assert_eq!(link.code(&transaction(mti, &card, stan, amount, &[(3, processing)])), "00");
    }
    assert_eq!(link.code(&transaction("0400", &card, 2, 500, &[(90, &original("0200", 2))])), "00");
    assert_eq!(link.code(&transaction("0200", &card, 5, 99_000_000, &[])), "51");
    let totals = |link: &mut Link, more: &[(usize, &str)]| {
        let mut elements = vec![(7, "1127101010"), (11, "000100"), (50, "978")];
        elements.extend_from_slice(more);
        link.call(&message("0500", &elements))
    };
    let expect = [
        (74, "0000000001"),
        (75, "0000000000"),
        (76, "0000000002"),
        (77, "0000000001"),
        (81, "0000000001"),
        (86, "0000000000000700"),
        (88, "0000000000003500"),
        (89, "0000000000000500"),
        (97, "D0000000000002300"),
    ];
    let check = |answer: &tp_iso8583::Message, balance: &str| {
        assert_eq!((answer.mti().text(), answer.text(39), answer.text(66)), ("0510", Some("00"), Some(balance)));
        for (element, value) in expect {
            assert_eq!(answer.text(element), Some(value), "element {element}");
        }
    };
    check(&totals(&mut link, &[(88, "0000000000003500"), (97, "D0000000000002300")]), "1");
    check(&totals(&mut link, &[(88, "0000000000003501")]), "2");
    // Another listener has its own.
    let other = totals(&mut Link::open(gateway.cards[1].1, "1987-bcd"), &[]);
    assert_eq!(other.text(88), Some("0000000000000000"));
    // They are as durable as the money.
    gateway.kill();
    let gateway = start();
    let mut link = Link::open(gateway.cards[0].1, "1987-ascii");
    check(&totals(&mut link, &[]), "1");
    let cut = message("0800", &[(7, "1127235959"), (11, "000101"), (15, "1128"), (70, "201")]);
    assert_eq!((link.code(&cut), link.code(&cut)), ("00".to_owned(), "00".to_owned()));
    assert_eq!(link.code(&transaction("0200", &card, 6, 11, &[])), "00");
    let today = totals(&mut link, &[(15, "1128")]);
    assert_eq!((today.text(76), today.text(88)), (Some("0000000001"), Some("0000000000000011")));
    assert_eq!(totals(&mut link, &[(15, "0101")]).text(39), Some("12"), "no such day");
    assert_eq!(gateway.stop(), Some(0));
    let gateway = start();
    let mut link = Link::open(gateway.cards[0].1, "1987-ascii");
    assert_eq!(totals(&mut link, &[(15, "1128")]).text(88), Some("0000000000000011"), "from the file");
}

#[test]
fn the_same_authorization_by_http_and_by_card_message_has_one_effect_and_one_answer() {
    let place = place("");
    // The key of the fields below as `docs/src/card-messages.md` draws it, made with Python's `hashlib`, in the form of a UUID.
    let key = "a7f26a4f-14ae-217c-a864-11638d9253f6";
    let answer = place.ascii().call(&transaction("0100", place.card(), 77, 4200, &[]));
    assert_eq!(answer.text(39), Some("00"));
    let body = r#"{"account":"1","amount":"4200","asset":"EUR","scale":2}"#;
    let http = place.gateway.command(&place.gateway.key, "/v1/authorizations", key, body);
    assert_eq!((http.status, &http.json()["repeated"]), (200, &serde_json::Value::Bool(true)), "{}", http.text);
    place.assert_stands("1", "1000000", "4200");
}

/// `kill -9` while purchases run: every approval that was heard is the approval of its repeat, and every purchase is paid once.
#[test]
fn no_purchase_that_was_approved_is_lost_by_a_kill_and_none_is_paid_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = listeners(folder.path(), "");
    let start = || Gateway::dev(&folder.path().join("data"), &["--set", &setting(&file)]);
    let mut expected = 0;
    let mut gateway = start();
    for round in 1..=5 {
        let (told, heard) = std::sync::mpsc::channel();
        let (at, card) = (gateway.cards[1].1, gateway.first_card.clone());
        let terminals: Vec<_> = (0..4)
            .map(|terminal| {
                let (told, card, name) = (told.clone(), card.clone(), format!("TERM{terminal:04}"));
                std::thread::spawn(move || (name.clone(), pay_until_the_end(at, &card, &name, round, &told)))
            })
            .collect();
        drop(told);
        heard.iter().take(150 * round as usize).for_each(drop);
        gateway.kill();
        gateway = start();
        let mut link = Link::open(gateway.cards[0].1, "1987-ascii");
        for terminal in terminals {
            let (name, sent) = terminal.join().expect("no panic");
            for (stan, approval) in sent {
                let amount = u64::from(stan % 97 + 1);
                let repeat = link.call(&transaction("0201", &card, stan, amount, &[(41, &name)]));
                assert_eq!(repeat.text(39), Some("00"), "{name} {stan}");
                if let Some(approval) = approval {
                    assert_eq!(repeat.text(38), Some(approval.as_str()), "{name} {stan}");
                }
                expected += amount;
            }
        }
        let posted = gateway.get(&gateway.key, "/v1/accounts/900").json()["balances"]["posted"].clone();
        assert_eq!(posted, expected.to_string(), "round {round}: every purchase once");
    }
}
