//! Folders with TensorBoard's event files and nothing else that is known.

use super::listing::Listing;
use super::points::{Field, Points};
use super::{Kind, Log, Saved};
use crate::error::Result;
use crate::train::tfevents;
use std::path::Path;

pub(super) static KIND: Kind = Kind { is, made_by: |_| "TensorBoard", checkpoints: |_| Vec::new(), results: &[], logs };

/// Event files in the folder itself; those in folders within it only where a single run has written them.
fn is(listing: &Listing) -> bool {
    let here = listing.events.iter().any(|path| path.parent() == Some(&listing.folder));
    let first = listing.events.first().and_then(|path| path.parent());
    here || first.is_some() && listing.events.iter().all(|path| path.parent() == first)
}

pub(super) fn logs(listing: &Listing, _: &[Saved]) -> Vec<Log> {
    listing.events.iter().map(|path| Log { path: path.clone(), read }).collect()
}

fn read(path: &Path, at: u64, points: &mut Points) -> Result<u64> {
    let far = tfevents::read(path, at, &mut |scalar| {
        let (Some(field), Ok(step)) = (Field::of(&scalar.tag), usize::try_from(scalar.step)) else { return };
        points.set(step, field, scalar.value);
        if field == Field::Loss {
            points.set(step, Field::Seconds, scalar.wall);
        }
    })?;
    Ok(far.at)
}
