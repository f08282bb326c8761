//! The schedule: one step at a time, of whom it is the turn.

use tp_actors::{CallOptions, Work};
use tp_core::event::Body;
use tp_core::time::Time;

use super::{World, Wrong, allow_read_error};
use crate::clients::Around;
use crate::machine::{chain, events};
use crate::plan::Feature;

impl World {
    pub(super) fn one_step(&mut self) -> Result<(), Wrong> {
        let partition = self.schedule.index(self.partitions);
        let choice = self.schedule.below(100);
        self.trace.update(&[u8::try_from(choice).unwrap_or(0)]);
        match choice {
            0..=27 => self.submit(),
            28..=54 => drop(self.engine().partition(partition)),
            55..=74 => self.write(),
            75..=78 => drop(self.engine().make_room()),
            79..=83 => self.checkpoint(),
            84..=87 => self.engine().tick(partition),
            88..=92 => self.pass_time(),
            93..=96 => self.look()?,
            97 => self.repeat(),
            98 => self.plan_fault(),
            _ => self.interrupt()?,
        }
        self.note_poison()
    }

    pub(super) fn submit(&mut self) {
        let now = self.engine().now();
        let command = self.traffic.draw(&self.plan, now);
        let number = self.clients.add(command);
        self.send(number);
    }

    pub(super) fn send(&mut self, number: usize) {
        let is_short = self.plan.has(Feature::Deadlines) && self.schedule.one_in(6);
        let deadline_ms = is_short.then(|| self.schedule.below(20));
        self.call(number, CallOptions { deadline_ms, ..CallOptions::default() });
    }

    /// Submits a command that was added.
    pub(super) fn call(&mut self, number: usize, options: CallOptions) {
        let command = self.clients.sent[number].command.clone();
        let (Some(engine), Some(oracle)) = (&self.engine, &self.oracle) else { return };
        let pending = engine.call(command, options);
        let (durable, now) = (engine.durable_seq().0, engine.now());
        self.clients.submitted(number, pending, oracle, durable, now);
    }

    /// The same command again, by another way; now and then a client goes away.
    pub(super) fn repeat(&mut self) {
        if self.plan.has(Feature::Repeats) && !self.clients.sent.is_empty() {
            let reach = self.clients.sent.len().min(30);
            let number = self.clients.sent.len() - 1 - self.schedule.index(reach);
            self.send(number);
        }
        if self.schedule.one_in(8) {
            let which = self.schedule.index(1 << 16);
            self.clients.disappear(which);
        }
    }

    pub(super) fn write(&mut self) {
        if self.plan.has(Feature::SlowDisk) && !self.schedule.one_in(6) {
            return;
        }
        for _ in 0..self.schedule.between(1, 3) {
            self.engine().write();
        }
    }

    pub(super) fn checkpoint(&mut self) {
        if !self.plan.has(Feature::Checkpoints) {
            return;
        }
        if self.schedule.one_in(40) {
            let _ = self.engine().begin_checkpoint(); // a full or broken disk
        }
        // A slot takes two steps at least: asked for by one, answered by its partition.
        for _ in 0..self.schedule.between(1, 400) {
            let (work, ended) = self.engine().checkpoint();
            match ended {
                Some(Ok(_)) => self.marks.hit("checkpoint taken"),
                Some(Err(_)) => self.marks.hit("checkpoint given up"),
                None if work == Work::Rests => {
                    for partition in 0..self.partitions {
                        self.engine().partition(partition);
                    }
                    if self.engine().poison().is_some() || !self.engine().checkpoint_status().is_running {
                        return;
                    }
                }
                None => {}
            }
        }
    }

    pub(super) fn pass_time(&mut self) {
        // A hold's time may come while an exchange works on it: exchanges are short, so leaps are more likely then.
        let is_exchanging = self.engine().look(|partition| partition.stats().exchanges_open > 0).contains(&true);
        let draw = self.schedule.below(12);
        let us = match if is_exchanging { draw + 4 } else { draw } {
            0..=6 => self.schedule.below(3_000),
            7..=9 => self.schedule.below(60_000),
            10 => self.schedule.below(1_500_000),
            _ if self.plan.has(Feature::Leaps) => self.schedule.below(40_000_000),
            _ => 1_000,
        };
        self.clocks.pass(us);
        if self.plan.has(Feature::Clocks) && self.schedule.one_in(20) {
            let (wall, far) = (self.clocks.wall().0, self.schedule.below(10_000_000_000));
            self.clocks.set_wall(Time(if self.schedule.one_in(2) { wall + far } else { wall.saturating_sub(far) }));
            self.marks.hit("clock jump");
        }
    }

    /// Clients look for their replies; what is durable is held against the oracle first.
    pub(super) fn look(&mut self) -> Result<(), Wrong> {
        self.fold()?;
        let Some(engine) = &self.engine else { return Ok(()) };
        let around = Around {
            durable: engine.durable_seq().0,
            now: engine.now(),
            had_no_space: self.had_no_space,
            is_closing: self.is_closing,
            was_poisoned: self.was_poisoned || engine.poison().is_some(),
        };
        let (Some(oracle), marks, trace, traffic) = (&self.oracle, &mut self.marks, &mut self.trace, &mut self.traffic)
        else {
            return Ok(());
        };
        if oracle.seq < around.durable {
            return Ok(()); // the journal could not be read just now
        }
        self.clients.poll(oracle, around, |command, reply| {
            marks.hit(format!("outcome {}", reply.outcome));
            if reply.repeated {
                marks.hit("repeated reply");
            }
            trace.update(&[reply.outcome as u8]).update(&reply.seq.0.to_le_bytes());
            traffic.learn(command, reply);
        })
    }

    /// Takes what became durable since to the oracle.
    pub(super) fn fold(&mut self) -> Result<(), Wrong> {
        let (Some(engine), Some(oracle)) = (&self.engine, &mut self.oracle) else { return Ok(()) };
        let durable = engine.durable_seq().0;
        if oracle.seq >= durable {
            return Ok(());
        }
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => match engine.source().read_from(oracle.seq + 1) {
                Ok(reader) => reader,
                Err(error) => return allow_read_error(&self.plan, &error.to_string()),
            },
        };
        while oracle.seq < durable {
            let frame = match reader.next(durable) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Err(format!("event {} is durable and not to be read", oracle.seq + 1)),
                Err(error) => return allow_read_error(&self.plan, &error.to_string()),
            };
            for event in events(&frame) {
                let (seq, event) = event?;
                if seq <= oracle.seq {
                    continue;
                }
                let clients = &self.clients;
                oracle.take(seq, &event, &|bits| clients.asked(bits))?;
                self.marks.hit(format!("event {}", event.body.name()));
                if let Body::Ended(e) = &event.body {
                    let refused = e.ends.iter().filter(|end| !end.outcome.is_approval()).count();
                    self.marks.add("refused exchange", refused as u64);
                }
                let digest = chain(self.log.last(), &event);
                self.trace.update(&digest);
                self.log.push(digest);
            }
        }
        self.reader = Some(reader);
        Ok(())
    }
}
