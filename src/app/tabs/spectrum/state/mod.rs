//! What is computed for the tab beside the spectra themselves.

pub mod updates;
