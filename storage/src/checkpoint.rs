//! Checkpoint files: where they live.
pub(crate) const CHECKPOINTS_DIR: &str = "checkpoints";
