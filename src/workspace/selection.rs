//! Which modules are chosen, and which one the views show.

/// An ordered set of module names; the last one chosen is the current one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    names: Vec<String>,
}

impl Selection {
    /// One module.
    pub fn one(name: &str) -> Self {
        Self { names: vec![name.to_owned()] }
    }

    /// These modules, the last one current.
    pub fn of(names: Vec<String>) -> Self {
        let mut selection = Self::default();
        for name in names {
            selection.add(&name);
        }
        selection
    }

    /// The module that the views show.
    pub fn current(&self) -> Option<&str> {
        self.names.last().map(String::as_str)
    }

    /// All of them, the current one last.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// True for a chosen module.
    pub fn contains(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name)
    }

    /// Adds a module, or makes it the current one.
    pub fn add(&mut self, name: &str) {
        self.names.retain(|n| n != name);
        self.names.push(name.to_owned());
    }

    /// Adds a module, or takes it out.
    pub fn toggle(&mut self, name: &str) {
        if self.contains(name) {
            self.names.retain(|n| n != name);
        } else {
            self.names.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_current() {
        let mut s = Selection::of(vec!["a".into(), "b".into(), "a".into()]);
        assert_eq!(s.names(), ["b", "a"]);
        assert_eq!(s.current(), Some("a"));
        s.toggle("a");
        assert_eq!(s.current(), Some("b"));
        s.toggle("b");
        assert_eq!(s.current(), None);
    }
}
