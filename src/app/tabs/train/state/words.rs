//! [`in_words`]: the engine's sentences as the window says them.

/// What the command line calls by an option, and the window by a button or a field.
const NAMES: [(&str, &str); 10] = [
    (", --force tries all the same", ""),
    ("--resume goes on after", "“Resume” continues after"),
    ("--resume goes on", "“Resume” continues"),
    ("--resume begins", "“Resume” begins"),
    ("--method qlora", "QLoRA"),
    ("--checkpointing on", "checkpointing"),
    ("--batch or --seq keep", "batch or sequence keep"),
    ("--seq ", "a sequence of "),
    ("--rank", "rank"),
    ("--targets", "targets"),
];

/// A sentence of the engine with the names that things have on the screen.
pub fn in_words(sentence: &str) -> String {
    NAMES.iter().fold(sentence.to_owned(), |text, (option, name)| text.replace(option, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use crate::train::memory::{Memory, check_in};

    #[test]
    fn buttons_and_fields_in_place_of_options() {
        let resume = "make room there, and --resume goes on after step 3, whose checkpoint is kept";
        assert_eq!(in_words(resume), "make room there, and “Resume” continues after step 3, whose checkpoint is kept");
        let room = device::Memory { total: 10, free: 10 };
        let refused = |memory: Memory| in_words(&check_in(&memory, Some(room), 0, false).unwrap_err().to_string());
        let of = |weights, adapters, activations| Memory { weights, adapters, activations, ..Memory::default() };
        assert!(refused(of(900, 1, 1)).ends_with("; QLoRA keeps the weights in 4 bits"));
        assert!(refused(of(1, 900, 1)).ends_with("; a smaller rank or fewer targets train less"));
        let text = refused(of(1, 1, 900));
        assert!(text.ends_with("; checkpointing, a smaller batch or sequence keep less"), "{text}");
        assert!(!text.contains("--"), "{text}");
    }
}
