//! What a record must not say: absolute paths of the machine, its host name, the user's name.
//!
//! Owns the replacement of such text; refuses to know what the text is about. Known places get words of their own, any
//! other absolute path becomes `<path>`.

use std::path::Path;

/// Replaces private text.
#[derive(Clone, Debug, Default)]
pub struct Cleaner {
    /// Absolute paths and their words, the longest path first.
    places: Vec<(String, String)>,
    /// Names, replaced where they are whole words.
    names: Vec<(String, &'static str)>,
}

impl Cleaner {
    /// What this process knows of its machine. `places`: further paths and their words.
    pub fn of_this_machine(places: &[(&Path, &str)]) -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let home = variable("HOME");
        let temporary = std::env::temp_dir();
        let mut cleaner = Self::default();
        for (path, word) in places {
            cleaner.place(path, word);
        }
        cleaner.place(Path::new(&variable("CARGO_TARGET_DIR")), "<target>");
        cleaner.place(&temporary, "<tmp>");
        cleaner.place(Path::new(&home), "<home>");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        for name in [host.as_str(), &variable("HOSTNAME")] {
            cleaner.name(name, "<host>");
        }
        let owner = Path::new(&home).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        for name in [owner, &variable("USER"), &variable("LOGNAME")] {
            cleaner.name(name, "<user>");
        }
        cleaner
    }

    /// Names a place, and what it is a link to.
    fn place(&mut self, path: &Path, word: &str) {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        for path in [path, &real] {
            let Some(text) = path.to_str().map(|text| text.trim_end_matches('/')) else { continue };
            if path.is_absolute() && text.len() > 1 && self.places.iter().all(|(known, _)| known != text) {
                self.places.push((text.to_owned(), word.to_owned()));
            }
        }
        self.places.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    fn name(&mut self, name: &str, word: &'static str) {
        let name = name.trim();
        if name.len() > 1 {
            self.names.push((name.to_owned(), word));
        }
    }

    /// The text without what it must not say.
    pub fn clean(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let (mut from, mut at, mut before) = (0, 0, ' ');
        while let Some(next) = text[at..].chars().next() {
            if is_path_start(before, &text[at..]) {
                self.words(&text[from..at], &mut out);
                let length = text[at..].find(|c| !is_path(c)).unwrap_or(text.len() - at);
                self.path(&text[at..at + length], &mut out);
                (from, at, before) = (at + length, at + length, '/');
            } else {
                (at, before) = (at + next.len_utf8(), next);
            }
        }
        self.words(&text[from..], &mut out);
        out
    }

    /// Writes an absolute path, cleaned.
    fn path(&self, path: &str, out: &mut String) {
        for (place, word) in &self.places {
            if let Some(below) = path.strip_prefix(place.as_str()).filter(|b| b.is_empty() || b.starts_with('/')) {
                out.push_str(word);
                return self.words(below, out);
            }
        }
        out.push_str("<path>");
    }

    /// Writes text in which no absolute path is, cleaned.
    fn words(&self, text: &str, out: &mut String) {
        let mut rest = text;
        while !rest.is_empty() {
            let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
            let known = self.names.iter().find(|(name, _)| name == word);
            out.push_str(known.map_or(word, |(_, replacement)| replacement));
            rest = &rest[word.len()..];
            let between = &rest[..rest.find(is_word).unwrap_or(rest.len())];
            out.push_str(between);
            rest = &rest[between.len()..];
        }
    }
}

/// A slash that begins an absolute path: not a quotient, not a step of a relative path, not a web address.
fn is_path_start(before: char, rest: &str) -> bool {
    let mut ahead = rest.chars();
    let is_slash = ahead.next() == Some('/');
    let starts_name = ahead.next().is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    is_slash && starts_name && !(is_word(before) || matches!(before, '/' | '.' | '>' | '~' | ')' | '}' | '%' | '*'))
}

fn is_path(c: char) -> bool {
    is_word(c) || matches!(c, '/' | '.' | '+' | '@' | '~' | '%' | '=')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaner() -> Cleaner {
        let mut cleaner = Cleaner::default();
        cleaner.place(Path::new("/home/ada"), "<home>");
        cleaner.place(Path::new("/home/ada/tpcore"), "<repository>");
        cleaner.place(Path::new("/"), "<root>");
        cleaner.place(Path::new("relative"), "<relative>");
        cleaner.name("ada", "<user>");
        cleaner.name("engine-1\n", "<host>");
        cleaner.name("", "<nobody>");
        cleaner
    }

    #[test]
    fn known_places_get_their_words_and_other_paths_none() {
        let check = |text: &str, clean: &str| assert_eq!(cleaner().clean(text), clean, "{text}");
        check("Compiling x (/home/ada/tpcore/core)", "Compiling x (<repository>/core)");
        check("at /home/ada/tpcore-two/x", "at <home>/tpcore-two/x");
        check("\"/home/ada\",/srv/data:1", "\"<home>\",<path>:1");
        check("--data-dir=/mnt/disk1/x", "--data-dir=<path>");
        check("/etc/x", "<path>");
        check("file:/home/bob/x", "file:<path>");
    }

    #[test]
    fn what_is_no_path_stays() {
        for text in ["1.2 M/s", "append/segment/512", "a / b", "https://docs.rs/x", "./target/x", "µs/iteration", ""] {
            assert_eq!(cleaner().clean(text), text);
        }
    }

    #[test]
    fn names_of_user_and_host_are_replaced_as_whole_words() {
        let check = |text: &str, clean: &str| assert_eq!(cleaner().clean(text), clean, "{text}");
        check("ada@engine-1: adamant", "<user>@<host>: adamant");
        check("/home/ada/tpcore/ada/x", "<repository>/<user>/x");
    }
}
