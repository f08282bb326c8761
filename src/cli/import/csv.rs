//! The bank's file: read and checked whole before anything is booked.
//!
//! Owns encoding, header, columns, and the rules between rows (dates in order, a transaction once). Refuses to know accounts
//! and engines. A UTF-8 byte order mark, CRLF line ends and quoted fields are accepted. A row that is there twice with the
//! same contents counts once; with other contents it is a fault.

use std::collections::HashMap;
use std::path::Path;

use super::super::exit::{Code, Failure};
use super::row::{COLUMNS, Fault, FieldFault, Row, parse, shown};

/// At most so many faults are shown; all are counted.
pub(crate) const FAULTS_SHOWN: usize = 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A file without faults.
#[derive(Debug)]
pub(crate) struct Sheet {
    /// In the order of the file, dates ascending, each transaction once.
    pub(crate) rows: Vec<Row>,
    /// Rows left out because an identical one stands before them.
    pub(crate) rows_identical: u64,
}

/// Reads and checks the file.
///
/// # Errors
/// Bad input, with the first [`FAULTS_SHOWN`] faults and the number of all.
pub(crate) fn read(path: &Path) -> Result<Sheet, Failure> {
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::input(format!("{} cannot be read: {error}; check the path given with --input", path.display()))
    })?;
    check(&path.display().to_string(), &bytes)
}

/// Checks the file's contents.
pub(crate) fn check(file: &str, bytes: &[u8]) -> Result<Sheet, Failure> {
    let mut checker =
        Checker { file, faults: Vec::new(), faults_total: 0, rows: Vec::new(), lines: HashMap::new(), identical: 0 };
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => checker.records(text),
        Err(error) => checker.not_utf8(bytes, error.valid_up_to()),
    }
    if checker.faults_total == 0 {
        return Ok(Sheet { rows: checker.rows, rows_identical: checker.identical });
    }
    let (what, s) = if checker.faults_total == 1 { ("a fault", "") } else { ("faults", "s") };
    let message = format!("{file} has {what}, so nothing was booked; correct the row{s} and run again:");
    Err(Failure { code: Code::Input, message, faults: checker.faults, faults_total: checker.faults_total })
}

struct Checker<'a> {
    file: &'a str,
    faults: Vec<Fault>,
    faults_total: u64,
    rows: Vec<Row>,
    /// Transaction → its row and line.
    lines: HashMap<u64, (Row, u64)>,
    identical: u64,
}

impl Checker<'_> {
    fn fault(&mut self, line: u64, (column, reason): FieldFault) {
        self.faults_total += 1;
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(Fault { file: self.file.to_owned(), line, column, reason });
        }
    }

    fn not_utf8(&mut self, bytes: &[u8], valid_up_to: usize) {
        let before = bytes.get(..valid_up_to).unwrap_or_default();
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line = before.split(|b| *b == b'\n').count() as u64;
        let byte = bytes.get(valid_up_to).copied().unwrap_or_default();
        let reason = format!(
            "not UTF-8: byte {byte:#04x} at position {} of the line; convert the file, for example with iconv",
            valid_up_to - line_start + 1
        );
        self.fault(line, (None, reason));
    }

    fn records(&mut self, text: &str) {
        let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        let mut record = ::csv::StringRecord::new();
        let mut date_before = None;
        let mut is_header = true;
        loop {
            let at = reader.position().line();
            match reader.read_record(&mut record) {
                Ok(false) => break,
                Err(error) => return self.fault(at, (None, format!("not CSV: {error}"))),
                Ok(true) => {}
            }
            let line = record.position().map_or(at, ::csv::Position::line);
            if is_header {
                is_header = false;
                if !self.header(line, &record) {
                    return;
                }
                continue;
            }
            self.row(line, &record, &mut date_before);
        }
        if is_header {
            self.fault(1, (None, format!("the file is empty: expected the header row {}", COLUMNS.join(","))));
        }
    }

    /// Whether the header is as it must be. Otherwise no row means anything.
    fn header(&mut self, line: u64, record: &::csv::StringRecord) -> bool {
        let differs = (0..COLUMNS.len().max(record.len())).find(|at| record.get(*at) != COLUMNS.get(*at).copied());
        let Some(at) = differs else { return true };
        let reason = match (record.get(at), COLUMNS.get(at)) {
            (Some(found), Some(column)) => {
                format!("header: column {} is {:?}, expected {column:?}", at + 1, shown(found))
            }
            (None, Some(column)) => format!("header: column {column:?} is missing"),
            (found, None) => {
                format!("header: column {} ({:?}) is one too many", at + 1, shown(found.unwrap_or_default()))
            }
        };
        self.fault(line, (None, reason));
        false
    }

    fn row(&mut self, line: u64, record: &::csv::StringRecord, date_before: &mut Option<tpcore::Date>) {
        let mut fields = [""; COLUMNS.len()];
        if record.len() != fields.len() {
            let missing =
                COLUMNS.get(record.len()).map_or_else(String::new, |column| format!(", {column:?} is missing"));
            return self.fault(line, (None, format!("{} columns, expected {}{missing}", record.len(), fields.len())));
        }
        for (field, text) in fields.iter_mut().zip(record) {
            *field = text;
        }
        let (date, row) = parse(&fields);
        if let (Some(date), Some(before)) = (date, *date_before)
            && date < before
        {
            self.fault(line, (Some("date"), format!("out of order: {date} after {before}; sort the rows by date")));
        }
        *date_before = date.or(*date_before);
        match row {
            Ok(row) => self.once(line, row),
            Err(faults) => faults.into_iter().for_each(|fault| self.fault(line, fault)),
        }
    }

    /// A transaction is booked once.
    fn once(&mut self, line: u64, row: Row) {
        match self.lines.get(&row.id) {
            None => {
                self.lines.insert(row.id, (row, line));
                self.rows.push(row);
            }
            Some((first, _)) if *first == row => self.identical += 1,
            Some((_, first_line)) => {
                let reason = format!("transaction {} stands on line {first_line} with other contents", row.id);
                self.fault(line, (Some("transaction_id"), reason));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "transaction_id,account_id,date,type,operation,amount_minor,balance_after_minor,category,partner_bank,partner_account\n";
    const ROW: &str = "1,7,1993-01-01,credit,cash_deposit,500,500,,,\n";

    fn sheet(rows: &str) -> Result<Sheet, Failure> {
        check("f.csv", format!("{HEADER}{rows}").as_bytes())
    }

    /// Line and the start of the reason of the first fault.
    fn refuses(bytes: &[u8], line: u64, reason: &str) {
        let failure = check("f.csv", bytes).expect_err(reason);
        let fault = &failure.faults[0];
        assert_eq!((failure.code, fault.line), (Code::Input, line), "{fault}");
        assert!(fault.to_string().contains(reason), "{fault}");
    }

    #[test]
    fn byte_order_mark_crlf_and_quotes_are_accepted() {
        let text =
            format!("\u{FEFF}{HEADER}\"1\",7,1993-01-01,credit,\"cash_deposit\",500,500,,,\n").replace('\n', "\r\n");
        assert_eq!(check("f.csv", text.as_bytes()).expect("a good file").rows.len(), 1);
    }

    #[test]
    fn a_header_alone_is_a_file_without_rows() {
        assert_eq!(sheet("").expect("no rows").rows.len(), 0);
    }

    #[test]
    fn an_identical_row_counts_once_and_another_with_its_id_is_a_fault() {
        let twice = sheet(&format!("{ROW}{ROW}")).expect("identical");
        assert_eq!((twice.rows.len(), twice.rows_identical), (1, 1));
        let other = format!("{HEADER}{ROW}{}", ROW.replace("500,500", "501,501"));
        refuses(other.as_bytes(), 3, "transaction 1 stands on line 2 with other contents");
    }

    #[test]
    fn what_is_not_the_format_is_refused_with_its_line() {
        refuses(b"", 1, "the file is empty");
        refuses(b"id,account\n", 1, "header: column 1 is \"id\"");
        refuses(HEADER.replace(",partner_account", "").as_bytes(), 1, "column \"partner_account\" is missing");
        refuses(HEADER.replace('\n', ",x\n").as_bytes(), 1, "one too many");
        refuses(format!("{HEADER}{ROW}1,7,1993-01-01\n").as_bytes(), 3, "3 columns, expected 10, \"type\" is missing");
        refuses(format!("{HEADER}{ROW}2,7,1992-12-31,credit,cash_deposit,5,5,,,\n").as_bytes(), 3, "out of order");
        let mut latin = format!("{HEADER}{ROW}").into_bytes();
        latin.extend_from_slice(b"2,7,1993-01-01,credit,cash_deposit,5,5,h\xE1l,,\n");
        refuses(&latin, 3, "not UTF-8: byte 0xe1 at position 41");
    }

    #[test]
    fn a_header_that_is_no_header_is_shown_cut_short() {
        // A file of another kind is one long field: all of it was in the message, several times as long once escaped.
        let failure = check("f.csv", "\u{1F}".repeat(100_000).as_bytes()).expect_err("no header");
        assert!(failure.faults[0].reason.len() < 1_000, "{} bytes", failure.faults[0].reason.len());
    }

    #[test]
    fn twenty_faults_are_shown_and_all_are_counted() {
        let failure = sheet(&"x,7,1993-01-01,credit,cash_deposit,5,5,,,\n".repeat(33)).expect_err("33 faults");
        assert_eq!((failure.faults.len(), failure.faults_total), (FAULTS_SHOWN, 33));
    }
}
