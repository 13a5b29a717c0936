//! [`Slot`]: the last good value stays while the next one is computed.

use crate::error::Error;

/// What is going on with a value.
#[derive(Clone, Debug, Default)]
pub enum Status {
    /// Nothing.
    #[default]
    Idle,
    /// It is being computed.
    Pending,
    /// The last attempt failed.
    Failed(Error),
}

/// A value that is computed elsewhere.
#[derive(Clone, Debug)]
pub struct Slot<T> {
    latest: Option<T>,
    status: Status,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { latest: None, status: Status::Idle }
    }
}

impl<T> Slot<T> {
    /// The last value that was good.
    pub fn latest(&self) -> Option<&T> {
        self.latest.as_ref()
    }

    /// What is going on.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// True while it is being computed.
    pub fn is_pending(&self) -> bool {
        matches!(self.status, Status::Pending)
    }

    /// Why there is no newer value.
    pub fn error(&self) -> Option<&Error> {
        match &self.status {
            Status::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Someone has begun to compute it.
    pub fn begin(&mut self) {
        self.status = Status::Pending;
    }

    /// Here it is, or the reason why not. Cancelling is no failure.
    pub fn finish(&mut self, result: Result<T, Error>) {
        self.status = match result {
            Ok(value) => {
                self.latest = Some(value);
                Status::Idle
            }
            Err(Error::Cancelled) => Status::Idle,
            Err(error) => Status::Failed(error),
        };
    }

    /// Nobody computes it any more.
    pub fn abandon(&mut self) {
        if self.is_pending() {
            self.status = Status::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_value_stays() {
        let mut slot = Slot::default();
        slot.finish(Ok(1));
        slot.begin();
        assert!(slot.is_pending());
        assert_eq!(slot.latest(), Some(&1));
        slot.finish(Err(Error::failure("no")));
        assert_eq!(slot.latest(), Some(&1));
        assert_eq!(slot.error().map(ToString::to_string).as_deref(), Some("no"));
        slot.finish(Err(Error::Cancelled));
        assert!(slot.error().is_none());
    }
}
