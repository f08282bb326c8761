//! HTML being written: a buffer, and the one way in which text of the report gets into it.
//!
//! Refuses to know what is written. Invariant: a string of the report reaches the page through [`Escaped`] only, as text or as
//! a quoted attribute; what does not pass through it is a literal of this program or a figure that it has formatted.

use std::fmt::{self, Write};

/// A page, or a part of one.
#[derive(Debug, Default)]
pub(super) struct Html {
    out: String,
}

impl Html {
    /// Markup of this program.
    pub(super) fn raw(&mut self, markup: &'static str) {
        self.out.push_str(markup);
    }

    /// Markup with figures and [`Escaped`] text in it.
    pub(super) fn put(&mut self, markup: fmt::Arguments<'_>) {
        self.out.write_fmt(markup).expect("a String takes everything, and no Display here fails");
    }

    /// The finished text.
    pub(super) fn into_string(self) -> String {
        self.out
    }
}

/// Text that means only itself, between tags or in a quoted attribute.
///
/// Control characters and those that turn the direction of writing around are shown by number: a browser would drop the first,
/// and the second could make a command line read as another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                c if c.is_control() || turns_writing(c) => write!(f, "{}", c.escape_unicode())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The explicit direction marks of Unicode's annex 9.
fn turns_writing(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_that_markup_gives_a_meaning_is_escaped() {
        assert_eq!(Escaped("<a b=\"c\" d='e'>&").to_string(), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
    }

    #[test]
    fn controls_and_direction_marks_are_shown_by_number() {
        assert_eq!(Escaped("a\0b\u{202e}c\r\n").to_string(), "a\\u{0}b\\u{202e}c\\u{d}\n");
    }
}
