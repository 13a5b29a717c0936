//! A run's loss as a small curve, for a list of runs.

use super::logs::Record;
use crate::guard;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// Points of a small curve.
const POINTS: usize = 32;
/// Bytes that are read for one of them: a line of metrics is shorter.
const PIECE: u64 = 2048;

/// The loss at some places of a file of metrics: of a long one little is read.
pub fn of_file(path: &Path) -> Arc<[f32]> {
    let read = || -> std::io::Result<Vec<f32>> {
        let mut file = guard::regular(path).map_err(std::io::Error::other)?;
        let length = file.metadata()?.len();
        if length <= PIECE * POINTS as u64 {
            let mut text = String::new();
            file.take(PIECE * POINTS as u64).read_to_string(&mut text)?;
            let records: Vec<Record> = text.lines().filter_map(Record::parse).collect();
            return Ok(thinned(&records).to_vec());
        }
        let mut losses = Vec::with_capacity(POINTS);
        for at in 0..POINTS as u64 {
            let begin = (length - PIECE) * at / (POINTS as u64 - 1);
            file.seek(SeekFrom::Start(begin))?;
            let mut bytes = Vec::new();
            file.by_ref().take(PIECE).read_to_end(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            // The first line may be a part of one.
            let record = text.lines().skip(usize::from(begin > 0)).find_map(Record::parse);
            losses.extend(record.map(|record| record.step.loss as f32).filter(|loss| loss.is_finite()));
        }
        Ok(losses)
    };
    read().unwrap_or_default().into()
}

/// The losses of some of these records, the first and the last among them.
pub fn thinned(records: &[Record]) -> Arc<[f32]> {
    let losses: Vec<f32> =
        records.iter().map(|record| record.step.loss as f32).filter(|loss| loss.is_finite()).collect();
    let last = losses.len().saturating_sub(1);
    let points = POINTS.min(losses.len());
    (0..points).map(|at| losses[last * at / (points - 1).max(1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_kept_and_a_long_file_is_read_in_parts() {
        let line = |step: usize| {
            format!("{{\"step\": {step}, \"loss\": {}, \"lr\": 0.001, \"tokens\": 9}}\n", 10.0 - step as f64 / 1000.0)
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        for steps in [1000, 9000] {
            let text: String = (0..steps).map(line).collect();
            assert_eq!(text.len() as u64 > PIECE * POINTS as u64, steps == 9000);
            std::fs::write(&path, text).unwrap();
            let curve = of_file(&path);
            assert_eq!((curve.len(), curve[0]), (POINTS, 10.0));
            assert!(curve.windows(2).all(|pair| pair[1] < pair[0]), "{curve:?}");
            assert!(curve[POINTS - 1] < 10.0 - 0.95 * steps as f32 / 1000.0, "{curve:?}");
        }
        assert!(thinned(&[]).is_empty() && of_file(&folder.path().join("none")).is_empty());
    }
}
