//! Files that lie, are cut, or do not belong together: each gives one sentence that names file and tensor, with exit
//! status 2, and the rest goes on.

mod folders;
mod fuzz;
mod headers;
mod mutations;
mod mutator;
mod pairs;
mod seeds;
mod weights;

use rankscope::error::Result;

/// The sentence of an error that is the input's fault; it must name all of `parts`.
#[track_caller]
fn says<T>(result: Result<T>, parts: &[&str]) -> String {
    let Err(error) = result else { panic!("expected an error that names {parts:?}") };
    assert_eq!(error.status(), 2, "{error}");
    let sentence = error.to_string();
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is missing from: {sentence}");
    }
    assert!(!sentence.contains('\n') && sentence.len() < 1000, "{sentence}");
    sentence
}
