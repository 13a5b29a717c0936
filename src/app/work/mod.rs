//! What is done beside the window: opening, spectra, pictures, files that are written.

pub mod dialog;
pub mod export;
pub mod jobs;
pub mod shown;
pub mod system;
