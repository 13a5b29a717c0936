//! Exported jobs: what lies in the folder, what is refused. `tests/cluster/run.py` runs them.

use crate::support::{fixture, rankscope};
use serde_json::Value;
use std::path::Path;

fn data(folder: &Path) -> String {
    let path = folder.join("data.jsonl");
    let line = |row: u32| {
        let ids: Vec<u32> = (0..12).map(|at| (row * 31 + at * 7) % 300 + 3).collect();
        format!("{{\"input_ids\": {ids:?}}}\n")
    };
    std::fs::write(&path, (0..9).map(line).collect::<String>()).unwrap();
    path.display().to_string()
}

fn export(folder: &Path, out: &str, more: &[&str]) -> Result<Value, String> {
    let (model, data, out) =
        (fixture("llama").display().to_string(), data(folder), folder.join(out).display().to_string());
    let begin = [
        "--json",
        "export-job",
        &model,
        "--data",
        &data,
        "--out",
        &out,
        "--batch",
        "4",
        "--steps",
        "5",
        "--targets",
        "q_proj,v_proj",
    ];
    let ran = rankscope(&[&begin, more].concat());
    if ran.status == 0 { Ok(serde_json::from_str(&ran.stdout).unwrap()) } else { Err(ran.stderr) }
}

#[test]
fn every_engine_by_every_launcher() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for engine in ["trl", "axolotl", "llama-factory", "unsloth"] {
        for launcher in ["python", "accelerate", "torchrun", "slurm", "skypilot", "kubernetes"] {
            let gpus = if launcher == "python" { "1" } else { "2" };
            let name = format!("{engine}-{launcher}");
            let written = export(root, &name, &["--for", engine, "--launcher", launcher, "--gpus", gpus]).unwrap();
            let files: Vec<&str> =
                written["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
            for file in ["README.md", "run.sh", "start.sh", "requirements.txt", "differs.json", "data/train.jsonl"] {
                assert!(files.contains(&file), "{name}: {files:?}");
            }
            assert!(files.iter().all(|file| root.join(&name).join(file).is_file()), "{name}");
            assert!(written["differs"].as_array().unwrap().iter().all(|one| one["why"].as_str().unwrap().len() > 10));
            for script in ["run.sh", "start.sh"] {
                let checked = std::process::Command::new("bash").arg("-n").arg(root.join(&name).join(script)).output();
                assert!(checked.unwrap().status.success(), "{name}/{script}");
            }
        }
    }
    // The rows of a step are divided, not added to.
    let job = std::fs::read_to_string(root.join("trl-accelerate/job.json")).unwrap();
    let job: Value = serde_json::from_str(&job).unwrap();
    assert_eq!(
        (&job["arguments"]["per_device_train_batch_size"], &job["arguments"]["gradient_accumulation_steps"]),
        (&2.into(), &1.into())
    );
    assert_eq!(job["lora"]["target_modules"], serde_json::json!(["q_proj", "v_proj"]));
    let lines = std::fs::read_to_string(root.join("trl-python/data/train.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 9);
    let row: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(row["input_ids"], row["labels"]);
}

#[test]
fn a_sweep_is_an_array() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--for", "trl", "--launcher", "slurm", "--ranks", "2,4", "--lrs", "1e-4,1e-3", "--seeds", "2"];
    export(folder.path(), "sweep", &more).unwrap();
    let text = |name: &str| std::fs::read_to_string(folder.path().join("sweep").join(name)).unwrap();
    assert_eq!(text("sweep.txt").lines().count(), 8);
    let first = |name: &str| text(name).lines().next().unwrap().to_owned();
    assert_eq!(first("sweep.txt"), "--rank 4 --alpha 8 --lr 0.0001 --seed 0 --out runs/r-4-lr-1e-4-seed-0");
    assert!(text("job.sbatch").contains("#SBATCH --array=1-8\n") && text("start.sh").contains("LINE"));
    // Each engine in its own words; of another rank there is no initial adapter.
    for (engine, line) in [
        ("axolotl", "--lora_r=2 --lora_alpha=4 --learning_rate=0.0001 --seed=0 --output_dir=runs/r-2-lr-1e-4-seed-0"),
        ("llama-factory", "lora_rank=2 lora_alpha=4 learning_rate=0.0001 seed=0 output_dir=runs/r-2-lr-1e-4-seed-0"),
    ] {
        let name = format!("sweep-{engine}");
        export(folder.path(), &name, &["--for", engine, "--ranks", "2", "--lrs", "1e-4"]).unwrap();
        assert_eq!(text(&format!("../{name}/sweep.txt")).trim_end(), line);
    }
    let told = export(folder.path(), "no", &["--for", "trl", "--ranks", "2,4", "--initial-adapter"]).unwrap_err();
    assert!(told.contains("the initial adapter has rank"), "{told}");
}

#[test]
fn what_an_engine_does_not_do_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let refused = |more: &[&str], says: &str| {
        let told = export(root, "out", more).unwrap_err();
        assert!(told.contains(says), "{told}");
        assert!(!root.join("out").exists());
    };
    refused(
        &["--for", "unsloth", "--launcher", "torchrun", "--gpus", "2", "--strategy", "fsdp"],
        "whole model on each GPU",
    );
    refused(&["--for", "trl", "--gpus", "2"], "python starts one process");
    refused(&["--for", "trl", "--launcher", "accelerate", "--nodes", "2"], "starts one machine");
    refused(&["--for", "trl", "--launcher", "slurm", "--nodes", "999", "--gpus", "8"], "1 to 1024");
    refused(&["--for", "axolotl", "--init", "pissa"], "axolotl has no pissa");
    export(root, "there", &["--for", "trl"]).unwrap();
    assert!(export(root, "there", &["--for", "trl"]).unwrap_err().contains("there is something already"));
}
