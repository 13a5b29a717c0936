//! What several tabs show.

pub mod layout;
