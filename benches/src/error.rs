//! Why a run could not be recorded, read or compared.

use std::path::PathBuf;

/// What went wrong, with the file in it. Nothing was recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunsError {
    /// The topic is no name of a folder.
    #[error("topic {0:?}: lower-case letters, digits and single hyphens are allowed, 1 to 60 of them")]
    Topic(String),
    /// Too few or too many repetitions were asked for.
    #[error("{0} runs were asked for: from 1 to 100 are allowed")]
    Runs(usize),
    /// There is a record of that name.
    #[error("{0} is there already: choose another topic, or remove it")]
    Exists(String),
    /// The command could not be started.
    #[error("{command}: {source}")]
    Start {
        /// The program.
        command: String,
        /// The system's report.
        source: std::io::Error,
    },
    /// The command ended badly and measured nothing.
    #[error("run {run}: the command ended with {status} and shows no figures; its last lines:\n{tail}")]
    Failed {
        /// Which, from 1 on.
        run: usize,
        /// Exit code or signal.
        status: String,
        /// The end of its standard error.
        tail: String,
    },
    /// The command should have given figures.
    #[error("run {run}: {what}")]
    NoFigures {
        /// Which, from 1 on.
        run: usize,
        /// What is missing.
        what: String,
    },
    /// A report does not have the form that it should.
    #[error("{file}: {what}")]
    Form {
        /// The file, or where the text came from.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// There is no such record.
    #[error("no run {name:?} in {folder}: `runs list` shows what is there")]
    Unknown {
        /// The name given.
        name: String,
        /// Where it was looked for.
        folder: String,
    },
    /// The records cannot be compared.
    #[error("{0}")]
    Incomparable(String),
    /// The system reported something.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's report.
        source: std::io::Error,
    },
}

impl RunsError {
    /// For `map_err`: an error about this file.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
    /// A report's form is wrong.
    pub fn form(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Form { file: file.into(), what: what.into() }
    }
}
