//! The command line as a report shows it.
//!
//! Owns the quoting; refuses to show a key.

/// The command line as it was given, without the directory of the program and without the key.
pub(super) fn command_line() -> String {
    shown(std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()))
}

fn shown(arguments: impl Iterator<Item = String>) -> String {
    let quoted = |argument: &str| {
        let is_plain = argument.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=.:,/%@".contains(&b));
        if is_plain && !argument.is_empty() {
            argument.to_owned()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    let (mut words, mut is_key) = (vec!["tp-loadgen".to_owned()], false);
    for argument in arguments {
        let is_secret = |text: &str| !text.starts_with('@');
        words.push(match argument.strip_prefix("--key=") {
            Some(key) if is_secret(key) => "--key=KEY".to_owned(),
            _ if is_key && is_secret(&argument) => "KEY".to_owned(),
            _ => quoted(&argument),
        });
        is_key = argument == "--key";
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_key_is_not_shown_and_the_file_that_it_is_in_is() {
        let shown = |line: &str| super::shown(line.split(' ').map(str::to_owned));
        assert_eq!(shown("--key secret -q"), "tp-loadgen --key KEY -q");
        assert_eq!(shown("--key=secret -q"), "tp-loadgen --key=KEY -q");
        assert_eq!(shown("--key @file"), "tp-loadgen --key @file");
    }
}
