//! Tokens: signed here without the library that checks them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;

/// Keys of the issuer.
struct Issuer {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    fn new() -> Self {
        Self {
            ed: Ed25519KeyPair::generate().unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    fn jwk(&self, algorithm: &str) -> Value {
        match algorithm {
            "EdDSA" => json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": text(self.ed.public_key())}),
            "ES256" => {
                let point = self.ec.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            _ => {
                let key = self.rsa.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                json!({"kty": "RSA", "kid": "rsa", "use": "sig",
                    "n": text(n.big_endian_without_leading_zero()), "e": text(e.big_endian_without_leading_zero())})
            }
        }
    }

    fn keys(&self) -> Value {
        json!({"keys": [self.jwk("EdDSA"), self.jwk("ES256"), self.jwk("RS256")]})
    }

    fn verifier(&self) -> TokenVerifier {
        verifier_of(&self.keys())
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", text(header.to_string()), text(claims.to_string()));
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
            signature
        };
        let signature = match header["alg"].as_str().unwrap() {
            "EdDSA" => self.ed.sign(message.as_bytes()).as_ref().to_vec(),
            "ES256" => self.ec.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
            "PS256" => rsa(&RSA_PSS_SHA256),
            _ => rsa(&RSA_PKCS1_SHA256),
        };
        format!("{message}.{}", text(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "EdDSA", "kid": "ed"}), claims)
    }
}

fn verifier_of(keys: &Value) -> TokenVerifier {
    let keys = KeySet::from_json(keys.to_string().as_bytes()).unwrap();
    TokenVerifier::new("https://issuer.example".to_owned(), "tpcore".to_owned(), keys)
}

fn claims() -> Value {
    json!({"iss": "https://issuer.example", "aud": "tpcore", "exp": NOW + 60, "sub": "person-1", "tenant": 3,
        "roles": ["read", "authorize"]})
}

fn with(name: &str, value: Value) -> Value {
    let mut all = claims();
    all[name] = value;
    all
}

fn without(name: &str) -> Value {
    let mut all = claims();
    all.as_object_mut().unwrap().remove(name);
    all
}

#[test]
fn a_token_of_each_algorithm_gives_tenant_roles_and_person() {
    let issuer = Issuer::new();
    for (algorithm, kid) in [("EdDSA", "ed"), ("ES256", "ec"), ("RS256", "rsa"), ("PS256", "rsa")] {
        let token = issuer.sign(&json!({"alg": algorithm, "kid": kid, "typ": "at+jwt"}), &claims());
        let bearer = issuer.verifier().verify(&token, NOW).unwrap();
        let roles = vec!["read".to_owned(), "authorize".to_owned()];
        let expected = Bearer { tenant: 3, roles, subject: "person-1".to_owned(), expires_unix_s: NOW + 60 };
        assert_eq!(bearer, expected, "{algorithm}");
    }
}

#[test]
fn roles_may_come_as_the_words_of_a_scope() {
    let issuer = Issuer::new();
    let mut of_scope = without("roles");
    of_scope["scope"] = json!("read  money_movement");
    let roles = |claims: &Value| issuer.verifier().verify(&issuer.token(claims), NOW).map(|bearer| bearer.roles);
    assert_eq!(roles(&of_scope), Ok(vec!["read".to_owned(), "money_movement".to_owned()]));
    assert_eq!(roles(&without("roles")), Ok(vec![]));
    assert_eq!(roles(&with("aud", json!(["other", "tpcore"]))), Ok(vec!["read".to_owned(), "authorize".to_owned()]));
}

#[test]
fn unsigned_and_symmetric_tokens_are_refused() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    for algorithm in ["none", "None", "HS256", "HS512", "ES384", "RS512", "unheard of"] {
        // With the public key as the secret of an HMAC: the old trick.
        let message =
            format!("{}.{}", text(json!({"alg": algorithm, "kid": "ed"}).to_string()), text(claims().to_string()));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, issuer.ed.public_key().as_ref());
        let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
        for signature in [text(tag), String::new()] {
            let refused = verifier.verify(&format!("{message}.{signature}"), NOW);
            assert!(matches!(refused, Err(TokenError::Algorithm | TokenError::Malformed)), "{algorithm}: {refused:?}");
        }
    }
}

#[test]
fn an_algorithm_that_is_not_the_keys_is_refused() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    for (algorithm, kid) in [("ES256", "ed"), ("EdDSA", "rsa"), ("RS256", "ec")] {
        let token = issuer.sign(&json!({"alg": algorithm, "kid": kid}), &claims());
        assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Algorithm));
    }
    let mut only_pss = issuer.jwk("RS256");
    only_pss["alg"] = json!("PS256");
    let verifier = verifier_of(&json!({"keys": [only_pss]}));
    assert!(verifier.verify(&issuer.sign(&json!({"alg": "PS256"}), &claims()), NOW).is_ok());
    assert_eq!(verifier.verify(&issuer.sign(&json!({"alg": "RS256"}), &claims()), NOW), Err(TokenError::Algorithm));
}

#[test]
fn the_key_must_be_named_when_there_are_several() {
    let issuer = Issuer::new();
    let unnamed = issuer.sign(&json!({"alg": "EdDSA"}), &claims());
    assert_eq!(issuer.verifier().verify(&unnamed, NOW), Err(TokenError::UnknownKey));
    let only = verifier_of(&json!({"keys": [issuer.jwk("EdDSA")]}));
    assert!(only.verify(&unnamed, NOW).is_ok());
    let misnamed = issuer.sign(&json!({"alg": "EdDSA", "kid": "other"}), &claims());
    assert_eq!(only.verify(&misnamed, NOW), Err(TokenError::UnknownKey));
}

#[test]
fn any_changed_byte_of_a_token_is_refused() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    let token = issuer.token(&claims());
    for at in 0..token.len() {
        for bits in [1, 2, 4] {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= bits;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(verifier.verify(&changed, NOW).is_err(), "byte {at}: {changed}");
        }
        assert!(verifier.verify(&token[..at], NOW).is_err());
    }
}

#[test]
fn each_claim_is_checked() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    let long = "r".repeat(ROLE_BYTES_MAX + 1);
    let cases = [
        (without("iss"), TokenError::Claim("iss")),
        (without("aud"), TokenError::Claim("aud")),
        (without("exp"), TokenError::Claim("exp")),
        (without("sub"), TokenError::Claim("sub")),
        (without("tenant"), TokenError::Claim("tenant")),
        (with("tenant", json!("3")), TokenError::ClaimType),
        (with("tenant", json!(-1)), TokenError::ClaimType),
        (with("exp", json!("tomorrow")), TokenError::ClaimType),
        (with("sub", json!("")), TokenError::Claim("sub")),
        (with("sub", json!("s".repeat(SUBJECT_BYTES_MAX + 1))), TokenError::Claim("sub")),
        (with("roles", json!([long])), TokenError::Claim("roles")),
        (with("roles", json!(vec!["r"; ROLES_MAX + 1])), TokenError::Claim("roles")),
        (with("iss", json!("https://issuer.example/")), TokenError::Issuer),
        (with("aud", json!(["other"])), TokenError::Audience),
        (with("aud", json!([])), TokenError::Audience),
    ];
    for (claims, expected) in cases {
        assert_eq!(verifier.verify(&issuer.token(&claims), NOW), Err(expected), "{claims}");
    }
}

#[test]
fn a_token_lives_from_nbf_to_exp_with_the_leeway() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    let at = |claims: Value| verifier.verify(&issuer.token(&claims), NOW).map(|_| ());
    assert_eq!(at(with("exp", json!(NOW - 29))), Ok(()));
    assert_eq!(at(with("exp", json!(NOW - 30))), Err(TokenError::Expired));
    assert_eq!(at(with("exp", json!(u64::MAX))), Ok(()));
    assert_eq!(at(with("nbf", json!(NOW + 30))), Ok(()));
    assert_eq!(at(with("nbf", json!(NOW + 31))), Err(TokenError::NotYet));
}

#[test]
fn other_kinds_of_tokens_are_refused() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    for header in [
        json!({"alg": "EdDSA", "kid": "ed", "typ": "logout+jwt"}),
        json!({"alg": "EdDSA", "kid": "ed", "crit": ["exp"]}),
        json!({"alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false}),
    ] {
        assert_eq!(verifier.verify(&issuer.sign(&header, &claims()), NOW), Err(TokenError::Kind), "{header}");
    }
    let long = issuer.token(&with("more", json!("x".repeat(TOKEN_BYTES_MAX))));
    assert_eq!(verifier.verify(&long, NOW), Err(TokenError::TooLong));
    for text in ["", ".", "..", "...", "a.b.c", "é.é.é"] {
        assert_eq!(verifier.verify(text, NOW), Err(TokenError::Malformed), "{text}");
    }
}

#[test]
fn a_key_that_the_token_brings_along_is_not_looked_at() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let header = json!({"alg": "EdDSA", "kid": "ed", "jwk": stranger.jwk("EdDSA"), "jku": "https://stranger.example"});
    assert_eq!(issuer.verifier().verify(&stranger.sign(&header, &claims()), NOW), Err(TokenError::DoesNotVerify));
}

#[test]
fn a_set_of_keys_is_taken_whole_or_not_at_all() {
    let issuer = Issuer::new();
    let of = |keys: Value| KeySet::from_json(json!({"keys": keys}).to_string().as_bytes());
    let changed = |name: &str, value: Value| {
        let mut key = issuer.jwk("ES256");
        key[name] = value;
        key
    };
    assert!(matches!(of(json!([])), Err(KeySetError::Empty)));
    assert!(matches!(of(json!([changed("use", json!("enc"))])), Err(KeySetError::Empty)));
    assert!(matches!(of(json!([changed("alg", json!("ES384"))])), Err(KeySetError::Empty)));
    assert!(matches!(of(json!([changed("crv", json!("P-384"))])), Err(KeySetError::Empty)));
    assert!(matches!(of(json!([changed("x", json!("AAAA"))])), Err(KeySetError::BadKey(kid)) if kid == "ec"));
    assert!(matches!(of(json!([issuer.jwk("ES256"), issuer.jwk("ES256")])), Err(KeySetError::Kids)));
    assert!(matches!(of(json!([issuer.jwk("EdDSA"), changed("kid", Value::Null)])), Err(KeySetError::Kids)));
    assert!(matches!(of(json!([issuer.jwk("EdDSA"), {"kty": "oct", "k": "AAAA"}])), Err(KeySetError::Symmetric)));
    assert!(matches!(of(json!(vec![issuer.jwk("EdDSA"); 101])), Err(KeySetError::TooLarge)));
    assert!(matches!(KeySet::from_json(b"{}"), Err(KeySetError::Malformed(_))));
    assert!(of(json!([issuer.jwk("EdDSA"), {"kty": "new", "kid": "n"}])).is_ok());
}

#[test]
fn reloading_takes_new_keys_and_keeps_the_old_ones_when_it_fails() {
    let (before, after) = (Issuer::new(), Issuer::new());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let verifier = before.verifier();
    std::fs::write(&path, "not a set").unwrap();
    assert!(verifier.reload(&path).is_err());
    assert!(verifier.reload(&folder.path().join("absent")).is_err());
    assert!(verifier.verify(&before.token(&claims()), NOW).is_ok());
    std::fs::write(&path, after.keys().to_string()).unwrap();
    verifier.reload(&path).unwrap();
    assert!(verifier.verify(&after.token(&claims()), NOW).is_ok());
    assert_eq!(verifier.verify(&before.token(&claims()), NOW), Err(TokenError::DoesNotVerify));
}
