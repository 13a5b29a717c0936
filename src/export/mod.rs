//! What a run becomes for other programs.
//!
//! | module | what it writes |
//! |---|---|
//! | [`job`] | a folder that trains the same on a cluster, by another engine |

pub mod job;
