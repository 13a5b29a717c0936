//! What is done beside the window: opening, spectra, pictures, files that are written.

pub mod export;
pub mod jobs;
pub mod shown;
