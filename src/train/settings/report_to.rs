//! [`ReportTo`]: what else a run's figures are written for.

use super::*;

/// Where the metrics of a run go beside its own files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportTo {
    /// Nowhere else.
    #[default]
    None,
    /// Event files in the run's folder.
    Tensorboard,
}

impl ReportTo {
    pub(super) fn is_none(&self) -> bool {
        *self == Self::None
    }
}
