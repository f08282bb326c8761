//! The built-in status page: one file without any outer one. Owns the file and the policy under which a browser runs it.
//!
//! The policy allows the page's own script and style by their hashes, and requests to where it came from; nothing else. What the page
//! shows of data it inserts as text, so that no name, reference or error can become markup.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const PAGE: &str = include_str!("status_page.html");

/// The page and its `Content-Security-Policy`. Computed at each call: call it once, at the start.
pub fn status_page() -> (&'static str, String) {
    let hash = |tag| {
        let hash = digest::digest(&digest::SHA256, element(PAGE, tag).as_bytes());
        STANDARD.encode(hash.as_ref())
    };
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        hash("script"),
        hash("style"),
    );
    (PAGE, policy)
}

/// What is between the tags of the page's one element of that name; it has no attributes.
fn element<'a>(page: &'a str, tag: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("<{tag}>")).unwrap_or_default();
    rest.split_once(&format!("</{tag}>")).unwrap_or_default().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_has_the_hashes_of_the_one_script_and_the_one_style() {
        let (page, policy) = status_page();
        for tag in ["script", "style"] {
            assert_eq!(page.matches(&format!("<{tag}")).count(), 1, "one {tag}, without attributes");
            assert!(!element(page, tag).is_empty());
        }
        // SHA-256 of nothing, in Base64: an element that was not found.
        assert!(!policy.contains("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="));
        assert_eq!(policy.matches("'sha256-").count(), 2);
        assert!(policy.starts_with("default-src 'none'; ") && policy.ends_with("frame-ancestors 'none'"));
    }

    #[test]
    fn the_page_needs_nothing_from_outside_and_nothing_that_its_policy_forbids() {
        let (page, _) = status_page();
        let forbidden = [
            "http://",
            "https://",
            "src=",
            "<link",
            "@import",
            "url(",
            "<iframe",
            "eval(",
            "Function(",
            " style=",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "localStorage",
            "sessionStorage",
            "document.cookie",
            "onclick=",
            "onload=",
            "javascript:",
            ".style.cssText",
        ];
        for word in forbidden {
            // The names of XML vocabularies are no addresses.
            let text = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(word), "{word}");
        }
    }

    #[test]
    fn every_member_that_the_page_reads_is_one_that_the_server_says() {
        let (page, _) = status_page();
        let said = super::super::metrics::tests::status_of_a_fresh_engine();
        let paths = page.split("data-path=\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default());
        let mut count = 0;
        for path in paths {
            count += 1;
            let found = path.split('.').try_fold(&said, |value, name| value.get(name));
            assert!(found.is_some(), "{path}");
        }
        assert!(count > 20, "{count}");
    }
}
