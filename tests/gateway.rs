//! The gateway from outside: the real binary over real sockets, as a payment gateway uses it.

#[path = "support/gateway.rs"]
mod support;

use support::{Connection, Gateway};

const EUR: &str = r#""asset":"EUR","scale":2"#;

#[test]
fn a_card_payment_goes_its_whole_way_and_every_reply_can_be_asked_for_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let key = gateway.key.clone();
    let body = format!(r#"{{"account":"1","amount":"2500",{EUR}}}"#);
    let first = gateway.command(&key, "/v1/authorizations", "order-1", &body);
    assert_eq!((first.status, first.outcome().as_str()), (201, "approved"), "{}", first.text);
    let again = gateway.command(&key, "/v1/authorizations", "order-1", &body);
    assert_eq!((again.status, again.json()["repeated"].as_bool()), (200, Some(true)));
    assert_eq!(again.json()["authorization"], first.json()["authorization"]);
    let other = format!(r#"{{"account":"1","amount":"2501",{EUR}}}"#);
    let conflict = gateway.command(&key, "/v1/authorizations", "order-1", &other);
    assert_eq!((conflict.status, conflict.outcome().as_str()), (409, "idempotency_conflict"));
    assert_eq!(conflict.header("content-type"), Some("application/problem+json"));

    let id = first.json()["authorization"].as_str().expect("an id").to_owned();
    let capture = format!(r#"{{"payee":"100","amount":"2000",{EUR},"is_final":true,"reference":"parcel 7"}}"#);
    let captured = gateway.command(&key, &format!("/v1/authorizations/{id}/captures"), "c1", &capture);
    assert_eq!((captured.status, captured.json()["balances"]["held"].as_str()), (201, Some("0")), "{}", captured.text);
    let transfer = captured.json()["transfer"].as_str().expect("a transfer").to_owned();
    let refund = format!(r#"{{"capture":"{transfer}","amount":"500",{EUR}}}"#);
    let refunded = gateway.command(&key, "/v1/refunds", "r1", &refund);
    assert_eq!((refunded.status, refunded.outcome().as_str()), (201, "approved"), "{}", refunded.text);

    let shown = gateway.get(&key, &format!("/v1/authorizations/{id}")).json();
    assert_eq!((shown["state"].as_str(), shown["captured"].as_str()), (Some("captured"), Some("2000")));
    assert_eq!(shown["captures"][0]["refunded"], "500");
    let looked_up = gateway.get(&key, "/v1/accounts/1/commands/order-1").json();
    assert_eq!(looked_up["authorization"], first.json()["authorization"]);
    let merchant = gateway.get(&key, "/v1/accounts/100").json();
    assert_eq!(merchant["balances"]["posted"], "1500");
    let history = gateway.get(&key, &format!("/v1/authorizations/{id}/history")).json();
    assert_eq!(
        (history["events"][0]["event"].as_str(), history["is_complete"].as_bool()),
        (Some("authorized"), Some(true))
    );
}

#[test]
fn pages_of_a_statement_put_together_are_the_whole_statement() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    for number in 1..=7 {
        let body = format!(r#"{{"account":"1","payee":"2","amount":"{number}",{EUR}}}"#);
        assert_eq!(gateway.command(&gateway.key, "/v1/transfers", &format!("t{number}"), &body).status, 201);
    }
    let whole = gateway.get(&gateway.key, "/v1/accounts/1/statement?limit=1000").json();
    let whole = whole["legs"].as_array().expect("legs").clone();
    let (mut paged, mut next) = (Vec::new(), String::new());
    loop {
        let page = gateway.get(&gateway.key, &format!("/v1/accounts/1/statement?limit=2{next}")).json();
        paged.extend(page["legs"].as_array().expect("legs").clone());
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    assert_eq!(paged, whole);
    assert_eq!(whole[0]["balance_after"], "999972");
    let at = whole[2]["seq"].as_u64().expect("a number");
    let then = gateway.get(&gateway.key, &format!("/v1/accounts/1?at={at}")).json();
    assert_eq!(then["balances"]["posted"], whole[2]["balance_after"]);
    assert_eq!(gateway.get(&gateway.key, "/v1/accounts/1/statement?cursor=1.1.1").status, 400);
}

#[test]
fn what_was_accepted_before_sigterm_is_answered_and_the_engine_closes_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let mut connection = Connection::open(gateway.listen);
    // The head is there, the body not yet: a request under way.
    let body = format!(r#"{{"account":"1","payee":"2","amount":"5",{EUR}}}"#);
    let head = format!(
        "POST /v1/transfers HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\nidempotency-key: t\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        gateway.key,
        body.len()
    );
    connection.write(head.as_bytes()).expect("sent");
    // Answered on another connection: the server has read the head by the time it is told to stop, or reads it while it drains.
    assert_eq!(gateway.get(&gateway.key, "/v1/accounts/1").status, 200);
    gateway.terminate();
    connection.write(body.as_bytes()).expect("sent");
    assert_eq!(connection.answer().status, 201);
    assert_eq!(gateway.wait(), Some(0));
    let again = Gateway::dev(&folder.path().join("data"), &[]);
    assert_eq!(again.get(&again.key, "/v1/accounts/1").json()["balances"]["posted"], "999995");
}
