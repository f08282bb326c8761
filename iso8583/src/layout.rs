//! Layouts: how messages look in bytes, as data.
//!
//! Owns reading a layout from TOML and the layouts that come along. A layout that says something impossible is refused with the place.
//! Refuses to know what elements mean.
//!
//! ```toml
//! name = "1987-bcd"
//! [forms]                  # of the type, the bitmap, lengths, digits: "ascii" or "bcd"; the bitmap: "hex" or "binary"
//! mti = "bcd"
//! bitmap = "binary"
//! lengths = "bcd"
//! digits = "bcd"
//! [elements]               # the standard's notation
//! 2 = "n..19"
//! 41 = "ans8"
//! [ascii]                  # elements whose digits are ASCII though `digits` is "bcd"
//! elements = [90]
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::element::{Characters, Element};
use crate::message::ELEMENTS;

/// How digits stand in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// One character a byte.
    Ascii,
    /// Two digits a byte; an odd first one stands alone behind a zero. Track 2: an odd last one stands before an `F`.
    Bcd,
}

/// How a bitmap stands in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BitmapForm {
    /// 16 hexadecimal digits for each 64 bits.
    Hex,
    /// Eight bytes for each 64 bits.
    Binary,
}

/// Why a layout was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// It is no TOML of this shape.
    #[error("the layout cannot be read: {0}")]
    Text(String),
    /// An element has another number.
    #[error("`{0}` is no element: they are numbered from 2 to {ELEMENTS}, without 65")]
    Number(String),
    /// An element's notation.
    #[error("element {element}: `{text}`: {reason}")]
    Notation {
        /// Which.
        element: usize,
        /// What it says.
        text: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// An element of a layout, with the form of its digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Placed {
    pub(crate) element: Element,
    pub(crate) form: Form,
}

/// How messages look in bytes.
#[derive(Clone, Debug)]
pub struct Layout {
    name: String,
    pub(crate) mti: Form,
    pub(crate) bitmap: BitmapForm,
    pub(crate) lengths: Form,
    elements: [Option<Placed>; ELEMENTS + 1],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    forms: Forms,
    elements: BTreeMap<String, String>,
    #[serde(default)]
    ascii: Exceptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Forms {
    mti: Form,
    bitmap: BitmapForm,
    lengths: Form,
    digits: Form,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    elements: Vec<usize>,
}

/// The layouts that come along.
const OWN: [(&str, &str); 2] = [
    ("1987-ascii", include_str!("../layouts/1987-ascii.toml")),
    ("1987-bcd", include_str!("../layouts/1987-bcd.toml")),
];

impl Layout {
    /// The names of the layouts that come along.
    pub fn names() -> impl Iterator<Item = &'static str> {
        OWN.iter().map(|(name, _)| *name)
    }

    /// One of the layouts that come along.
    pub fn named(name: &str) -> Option<Self> {
        let (_, text) = OWN.iter().find(|(own, _)| *own == name)?;
        Self::parse(text).ok()
    }

    /// Reads a layout from TOML.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn parse(text: &str) -> Result<Self, LayoutError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| LayoutError::Text(error.to_string()))?;
        let text: Text = table.try_into().map_err(|error: toml::de::Error| LayoutError::Text(error.to_string()))?;
        let mut elements = [None; ELEMENTS + 1];
        for (number, notation) in text.elements {
            let place = number.parse().ok().filter(|number| (2..=ELEMENTS).contains(number) && *number != 65);
            let place: usize = place.ok_or(LayoutError::Number(number))?;
            let element = Element::parse(&notation).map_err(|reason| LayoutError::Notation {
                element: place,
                text: notation,
                reason,
            })?;
            elements[place] = Some(Placed { element, form: text.forms.digits });
        }
        for number in text.ascii.elements {
            let placed = elements.get_mut(number).and_then(Option::as_mut);
            placed.ok_or_else(|| LayoutError::Number(number.to_string()))?.form = Form::Ascii;
        }
        let Forms { mti, bitmap, lengths, .. } = text.forms;
        Ok(Self { name: text.name, mti, bitmap, lengths, elements })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An element, if messages of this layout may have it.
    pub fn element(&self, number: usize) -> Option<Element> {
        self.placed(number).map(|placed| placed.element)
    }

    pub(crate) fn placed(&self, number: usize) -> Option<&Placed> {
        self.elements.get(number)?.as_ref()
    }
}

impl Placed {
    /// Whether two of its characters stand in one byte.
    pub(crate) fn is_packed(&self) -> bool {
        let are_digits = matches!(self.element.characters, Characters::Digits | Characters::Track);
        self.form == Form::Bcd && are_digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_that_come_along_can_be_read_and_have_the_same_elements() {
        let layouts: Vec<Layout> = Layout::names().map(|name| Layout::named(name).expect(name)).collect();
        for layout in &layouts {
            assert!(Layout::names().any(|name| name == layout.name()));
            for element in 2..=ELEMENTS {
                assert_eq!(layout.element(element), layouts[0].element(element), "{} {element}", layout.name());
            }
        }
    }

    #[test]
    fn a_layout_that_says_something_impossible_is_refused_with_the_place() {
        let head =
            "name = 'x'\n[forms]\nmti = 'ascii'\nbitmap = 'hex'\nlengths = 'ascii'\ndigits = 'ascii'\n[elements]\n";
        let refused = |rest: &str| Layout::parse(&format!("{head}{rest}")).expect_err(rest).to_string();
        assert!(Layout::parse(head).is_ok());
        for (rest, wanted) in [
            ("1 = 'b64'", "`1` is no element: they are numbered from 2 to 128, without 65"),
            ("65 = 'b64'", "`65` is no element: they are numbered from 2 to 128, without 65"),
            ("2 = 'n..100'", "element 2: `n..100`: the length's digits cannot say that much"),
            ("2 = 'n6'\n[ascii]\nelements = [3]", "`3` is no element: they are numbered from 2 to 128, without 65"),
        ] {
            assert_eq!(refused(rest), wanted);
        }
        assert!(refused("[other]\na = 1").starts_with("the layout cannot be read"));
        assert!(Layout::parse("name = 'x'").is_err());
        assert!(Layout::named("2003").is_none());
    }
}
