//! The example is a test too: what a newcomer runs first must not rot.

#[path = "../examples/embed.rs"]
mod embed;

#[test]
fn the_example_runs_to_its_end() {
    embed::main().expect("the example's own checks hold");
}
