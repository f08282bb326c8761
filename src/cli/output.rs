//! Where results and failures are printed: text or JSON on standard output, failures on standard error.
//!
//! Owns the two streams and the text form of amounts and tables. Refuses to know what is printed.

use std::fmt::Write as _;
use std::io::{self, BufWriter, StdoutLock, Write as _};

use serde_json::{Map, Value, json};

use super::exit::{Code, Failure};

/// The command's output.
pub(crate) struct Output {
    json: bool,
    stdout: BufWriter<StdoutLock<'static>>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, stdout: BufWriter::with_capacity(1 << 16, io::stdout().lock()) }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.stdout, "{text}").map_err(|error| Failure::stdout(&error))
    }

    /// One JSON object on one line.
    pub(crate) fn object(&mut self, object: &Map<String, Value>) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut self.stdout, object).map_err(io::Error::from);
        written.and_then(|()| self.stdout.write_all(b"\n")).map_err(|error| Failure::stdout(&error))
    }

    /// Hands over what was printed so far: for whoever waits for it.
    #[cfg(feature = "serve")]
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(|error| Failure::stdout(&error))
    }

    /// Prints the failure, if any, and gives the exit code.
    pub(crate) fn finish(mut self, result: Result<Code, Failure>) -> Code {
        let flushed = |output: &mut Self| output.stdout.flush().map_err(|error| Failure::stdout(&error));
        let failure = match result.and_then(|code| flushed(&mut self).map(|()| code)) {
            Ok(code) => return code,
            Err(failure) => failure,
        };
        if !failure.message.is_empty() {
            remark(&failure_text(&failure));
            if self.json {
                let printed = self.object(&failure_json(&failure)).and_then(|()| flushed(&mut self));
                drop(printed); // told on standard error already
            }
        }
        failure.code
    }
}

/// A remark for a person, beside the result.
pub(crate) fn remark(text: &str) {
    // Standard error may be closed; there is no third place to say so.
    let _ = writeln!(io::stderr(), "tpcore: {text}");
}

fn failure_text(failure: &Failure) -> String {
    let mut text = failure.message.clone();
    for fault in &failure.faults {
        let _ = write!(text, "\n  {fault}");
    }
    let more = failure.faults_total.saturating_sub(failure.faults.len() as u64);
    if more > 0 {
        let _ = write!(text, "\n  and {more} more");
    }
    text
}

fn failure_json(failure: &Failure) -> Map<String, Value> {
    let faults: Vec<Value> = failure.faults.iter().map(|fault| Value::Object(fault.json())).collect();
    object([(
        "error",
        json!({
            "exit_code": failure.code as u8,
            "name": failure.code.name(),
            "message": failure.message,
            "faults": faults,
            "faults_total": failure.faults_total,
        }),
    )])
}

/// A JSON object with its fields in this order.
pub(crate) fn object<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A number as a decimal string, as ids and amounts are in JSON.
pub(crate) fn decimal(number: impl std::fmt::Display) -> Value {
    Value::String(number.to_string())
}

/// An optional number as a decimal string, or null.
pub(crate) fn decimal_or_null(number: Option<impl std::fmt::Display>) -> Value {
    number.map_or(Value::Null, decimal)
}

/// Minor units in the asset's unit, for people: `-1234.50`.
pub(crate) fn units(minor: i128, scale: u8) -> String {
    let digits = minor.unsigned_abs().to_string();
    let scale = usize::from(scale);
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    let sign = if minor < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// As [`units`], for sums that are never negative. Sums beyond 2^127 are shown in minor units.
pub(crate) fn units_unsigned(minor: u128, scale: u8) -> String {
    i128::try_from(minor).map_or_else(|_| minor.to_string(), |minor| units(minor, scale))
}

/// Rows of text in columns of equal width.
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    left: usize,
}

impl Table {
    /// The first `left` columns are set flush left, the others flush right.
    pub(crate) fn new(header: &[&'static str], left: usize) -> Self {
        Self { header: header.to_vec(), rows: Vec::new(), left }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self, output: &mut Output) -> Result<(), Failure> {
        let mut widths: Vec<usize> = self.header.iter().map(|cell| cell.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let header: Vec<String> = self.header.iter().map(|cell| (*cell).to_owned()).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            output.line(&self.set(row, &widths))?;
        }
        Ok(())
    }

    fn set(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let _ = if column < self.left {
                write!(line, "{gap}{cell:<width$}")
            } else {
                write!(line, "{gap}{cell:>width$}")
            };
        }
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_units_are_shown_with_the_ledgers_decimals() {
        let shown = [units(0, 2), units(5, 2), units(-5, 2), units(123_456, 2), units(-7, 0), units(1, 8)];
        assert_eq!(shown, ["0.00", "0.05", "-0.05", "1234.56", "-7", "0.00000001"]);
        assert_eq!(units(i128::MIN, 0), i128::MIN.to_string());
        assert_eq!(units_unsigned(u128::MAX, 2), u128::MAX.to_string());
    }
}
