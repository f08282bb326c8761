//! What a session over links or streams does not carry: commands that go over HTTP beside it.
//!
//! Owns how many of them are open, so that a session with none asks no sockets for them. Refuses to know which they are.

use std::time::Duration;

use tpcore::{Command, Reply};

use crate::target::Session;

/// The HTTP session beside another one.
pub(super) struct Aside {
    http: Box<dyn Session>,
    open: usize,
}

impl Aside {
    pub(super) fn new(http: Box<dyn Session>) -> Self {
        Self { http, open: 0 }
    }

    /// Whether some are not answered yet.
    pub(super) const fn is_open(&self) -> bool {
        self.open > 0
    }

    /// As [`Session::submit`].
    pub(super) fn submit(&mut self, tag: u64, command: &Command) -> bool {
        let is_taken = self.http.submit(tag, command);
        self.open += usize::from(is_taken);
        is_taken
    }

    /// As [`Session::poll`].
    pub(super) fn poll(&mut self, each: &mut dyn FnMut(u64, Reply)) -> usize {
        if self.open == 0 {
            return 0;
        }
        let polled = self.http.poll(each);
        self.open -= polled;
        polled
    }

    /// As [`Session::wait`].
    pub(super) fn wait(&mut self, timeout: Duration) {
        self.http.wait(timeout);
    }
}
