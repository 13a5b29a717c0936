//! How everything looks and is called: colours, fonts, terms, and what persists of a person's choices.

pub mod fonts;
pub mod glossary;
pub mod palette;
pub mod settings;
pub mod theme;
