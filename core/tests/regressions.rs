//! Defects that were found once and must not come back. Each test opens with the story of its defect and asserts what is right.
//!
//! | file | defects of |
//! |---|---|
//! | `forgetting` | what leaves memory, and that leaving it changes nothing else (IDM-1, J4) |
//! | `budgets` | full memory budgets that time must free again |
//! | `decisions` | single commands that were decided wrongly (J2, HLD-1, LED-1) |
//! | `edges` | lines that could be broken unseen: the exact deadline, the end of a sum's range, whom an idle partition asks |
//! | `bytes` | images and events from outside that were believed |
//!
//! The driver is the harness of the other tests, so that every step also checks SEQ-1, J1, J3, EXC-1, IDM-1, LED-1, FGT-1 and
//! `Slot::validate`.

mod harness;

#[path = "regressions/bank.rs"]
mod bank;
#[path = "regressions/budgets.rs"]
mod budgets;
#[path = "regressions/bytes.rs"]
mod bytes;
#[path = "regressions/decisions.rs"]
mod decisions;
#[path = "regressions/edges.rs"]
mod edges;
#[path = "regressions/forgetting.rs"]
mod forgetting;
