//! Bugs on request.
//!
//! Owns two lists of known bugs and one switch. Where one belongs, the code asks [`has`]; without the feature `on` that is a constant
//! `false`, and nothing of it is left in the binary. With it, `tp-sim planted` and the models of `tp-actors` switch one after the
//! other on and must find each: whoever misses a known bug would miss an unknown one. Refuses to know where its bugs are planted.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU8, Ordering};

macro_rules! bugs {
    (
        sequential { $($name:ident = $text:literal, $story:literal;)* }
        interleaved { $($i_name:ident = $i_text:literal, $i_story:literal;)* }
    ) => {
        /// A known bug.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Bug { None, $($name,)* $($i_name,)* }
        impl Bug {
            /// Every bug that shows when one step is done after the other: the simulation must find it.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// Every bug that only threads show, between two instructions of a step: the models of `tp-actors` must find it.
            pub const INTERLEAVED: &'static [Self] = &[$(Self::$i_name),*];
            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { Self::None => "none", $(Self::$name => $text,)* $(Self::$i_name => $i_text,)* }
            }
            /// What it does.
            pub const fn story(self) -> &'static str {
                match self { Self::None => "", $(Self::$name => $story,)* $(Self::$i_name => $i_story,)* }
            }
        }
    };
}

bugs! {
    sequential {
        SkipSync = "skip-sync", "a frame is not synced before it counts as durable";
        SkipOpenSync = "skip-open-sync", "what a start finds in the page cache is not synced before it is built on";
        SkipNameSync = "skip-name-sync", "the name of a new segment is not made durable";
        TrustCache = "trust-cache", "recovery reads the page cache instead of the medium";
        AnswerEarly = "answer-early", "replies leave when their event is decided, not when it is durable";
        PublishEarly = "publish-early", "the durable number is one too high";
        CheckpointEarly = "checkpoint-early", "a checkpoint is published before what it shows is durable";
        WatermarkOff = "watermark-off", "a checkpoint page says one event more than it holds";
        TimeFalls = "time-falls", "engine time does not start behind what was recorded";
        AbandonAcks = "abandon-acks", "a poisoned engine hands over replies that waited for the disk";
        NoResend = "no-resend", "open exchanges are not sent again after a start";
        KeyLostAtCheckpoint = "key-lost-at-checkpoint", "the last key of a slot is not copied into a checkpoint";
        OpaqueSinceLost = "opaque-since-lost", "a checkpoint forgets since when opaque keys were seen";
        TransitTwice = "transit-twice", "replay books money in transit twice";
        RefusedEndLost = "refused-end-lost", "a refused exchange does not give the money back";
        RefusedHoldLost = "refused-hold-lost", "a refused capture does not give its hold back";
        RefusedLimitLost = "refused-limit-lost", "a refused transfer stays counted in the limits";
        ExpireEarly = "expire-early", "holds expire two seconds early";
        ExpiryLost = "expiry-lost", "a hold whose exchange was open at its time never expires";
        NoConflict = "no-conflict", "another command with the same key gets the first one's answer";
        TombstoneIgnored = "tombstone-ignored", "a command whose reversal came first executes";
        FenceIgnored = "fence-ignored", "a command that was fenced executes";
        RefundUncapped = "refund-uncapped", "refunds before do not count against a capture";
        CeilingUp = "ceiling-up", "the capture tolerance is rounded up";
        LimitIgnored = "limit-ignored", "the amount limit of a month is not tested";
        ReversedTwice = "reversed-twice", "a reversal does not mark its original";
        BucketOff = "bucket-off", "limits ignore the ledger's calendar";
        FrozenPays = "frozen-pays", "a debit-frozen account is debited";
        KeyTooOld = "key-too-old", "keys older than the window are executed";
        FreedLost = "freed-lost", "keys that an open hold kept never leave memory once it has closed";
        AnswersForgotten = "answers-forgotten", "an answer is forgotten while its exchange is open";
        ClosedTakes = "closed-takes", "forced movements are booked on closed accounts";
        MirrorUnsynced = "mirror-unsynced", "the second copy of a frame is not synced before the frame counts as durable";
        RebuildSkipped = "rebuild-skipped", "what one copy of the journal lacks is noted and not rebuilt from the other";
        UndoneHoldStays = "undone-hold-stays", "what a reversed capture returns into its hold is available at once";
    }
    interleaved {
        NumbersTorn = "numbers-torn", "numbers are drawn by a read and a write instead of one addition";
        MessageBeforeRing = "message-before-ring", "messages leave before their events are in the ring";
        WaitUnfenced = "wait-unfenced", "a completion looks whether its client waits without a fence after the push";
        ClosedLate = "closed-late", "a partition that ends says so after it has emptied its inbox";
        NudgeUnlocked = "nudge-unlocked", "whoever waits for a number is woken without the lock under which it looks";
        RoomLate = "room-late", "what was in flight counts as free before the room that is left is shown";
        RoomAfterWake = "room-after-wake", "partitions are woken before the room they wait for is there";
    }
}

/// Whether bugs are compiled in.
pub const IS_ON: bool = cfg!(feature = "on");

static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Switches a bug on, and whatever was on before off.
pub fn plant(bug: Bug) {
    PLANTED.store(bug as u8, Ordering::SeqCst);
}

/// Whether the bug is on.
#[cfg(feature = "on")]
pub fn has(bug: Bug) -> bool {
    PLANTED.load(Ordering::Relaxed) == bug as u8
}

/// Whether the bug is on: it is not compiled in.
#[cfg(not(feature = "on"))]
#[inline]
pub const fn has(_: Bug) -> bool {
    false
}
