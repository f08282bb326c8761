//! How long a directory takes to come back: from its journal alone, and from its newest checkpoint and what follows it.
//!
//! Reads only; runs beside a running engine.
//!
//! ```text
//! cargo run --release -p tp-actors --example replay -- DIRECTORY [runs]
//! ```
#![allow(clippy::print_stdout, reason = "an example prints its figures")]
#![allow(clippy::cast_precision_loss, reason = "figures for reading, not money")]

use std::time::Instant;

use tp_actors::{View, ViewOptions};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let path = std::env::args().nth(1).ok_or("the data directory is missing")?;
    let runs: u32 = std::env::args().nth(2).map_or(Ok(3), |text| text.parse())?;
    for _ in 0..runs {
        let start = Instant::now();
        let view = View::open(&path, ViewOptions { use_checkpoint: false, ..ViewOptions::default() })?;
        let took = start.elapsed();
        let (events, digest) = (view.last_seq().0, view.digest());
        drop(view);
        println!("journal       {:.0} events a second ({events} in {took:?})", events as f64 / took.as_secs_f64());
        let start = Instant::now();
        let view = View::open(&path, ViewOptions::default())?;
        let took = start.elapsed();
        println!("checkpoint    {took:?} from checkpoint {:?}", view.checkpoint());
        if view.digest() != digest {
            return Err("journal and checkpoint give different digests".into());
        }
    }
    Ok(())
}
