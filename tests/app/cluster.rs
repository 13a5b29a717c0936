//! A run that goes to a cluster, and runs that other programs have made: listed, opened, filmed, compared, followed.

use std::path::Path;
use std::time::Duration;

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use rankscope::adapter::Adapter;

use crate::fixtures::{copied, fixture};
use crate::support::*;
use crate::training::{data, ready, step, window};

fn there(window: &Window, role: Role, name: &str) -> bool {
    window.query_by_role_and_label(role, name).is_some()
}

/// Whether something can be changed.
fn is_on(window: &Window, role: Role, name: &str) -> bool {
    !get(window, role, name).accesskit_node().is_disabled()
}

/// Chooses from a list; what has just appeared has found its place.
fn choose(window: &mut Window, list: &str, entry: &str) {
    until(window, "a rest", is_quiet);
    click(window, Role::ComboBox, list);
    click(window, Role::Button, entry);
}

#[test]
fn a_run_is_taken_to_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = ready(&folder, 8);
    click(&mut window, Role::Button, "Take it to a cluster…");
    until(&mut window, "the memory of each GPU", |w| says(w, "2 GPUs by DDP: "));
    assert!(there(&window, Role::Row, "2 GPUs, FSDP2") && there(&window, Role::Row, "1 GPU"));
    // What a launcher or an engine does not do cannot be chosen.
    assert!(is_on(&window, Role::SpinButton, "GPUs of each") && !is_on(&window, Role::SpinButton, "Machines"));
    choose(&mut window, "Started by", "Python");
    until(&mut window, "one GPU", |w| says(w, "One GPU: "));
    assert!(!is_on(&window, Role::SpinButton, "GPUs of each") && !is_on(&window, Role::ComboBox, "Spread by"));
    choose(&mut window, "Started by", "Slurm");
    assert!(is_on(&window, Role::SpinButton, "Machines"));
    // A folder that holds something, a rank that is none: said where it was asked for.
    let out = folder.path().join("full");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("thesis.txt"), "years of work").unwrap();
    let to = |window: &mut Window, field: &str, text: &str| {
        write(window, field, text);
        press(window, Modifiers::NONE, Key::Enter);
    };
    to(&mut window, "Folder of the job", out.to_str().unwrap());
    click(&mut window, Role::Button, "Write the folder");
    until(&mut window, "a sentence", |w| says(w, "there is something already, expected a new or an empty folder"));
    let out = folder.path().join("job");
    to(&mut window, "Folder of the job", out.to_str().unwrap());
    assert!(!says(&window, "there is something already"));
    to(&mut window, "Ranks of a sweep there", "2, two");
    click(&mut window, Role::Button, "Write the folder");
    until(&mut window, "a sentence", |w| says(w, "rank \"two\"; expected whole numbers above 0"));
    to(&mut window, "Ranks of a sweep there", "2, 4");
    click(&mut window, Role::Button, "Write the folder");
    until(&mut window, "the folder", |w| says(w, &format!("files are in {}", out.display())));
    assert!(says(&window, "bash run.sh") && says(&window, "Not the same there"));
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert!(text("job.sbatch").contains("#SBATCH --array=1-2\n") && text("sweep.txt").lines().count() == 2);
    assert_eq!(text("data/train.jsonl").lines().count(), 36);
    until(&mut window, "a rest", is_quiet);
    click(&mut window, Role::Button, "Close");
    until(&mut window, "the question's end", |w| !says(w, "bash run.sh"));
}

/// Chooses a run in History.
fn pick(window: &mut Window, row: &str) {
    click(window, Role::Button, "History");
    until(window, row, |w| there(w, Role::Row, row));
    window.get_by_role_and_label(Role::Row, row).click_accesskit();
    window.step();
    window.step();
}

/// Runs of TRL and mlx-lm, with the model that they are of beside them.
fn foreign(folder: &Path) {
    for name in ["trl", "mlx"] {
        copied(&fixture("foreign").join(name), &folder.join("runs").join(name));
    }
    copied(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/tales-2m"), &folder.join("runs/tales-2m"));
}

#[test]
fn runs_of_other_programs_stand_on_one_plot() {
    let folder = tempfile::tempdir().unwrap();
    foreign(folder.path());
    data(folder.path());
    let mut window = window(folder.path());
    for row in ["trl, finished", "mlx, finished"] {
        pick(&mut window, row);
        assert!(!is_on(&window, Role::Button, "Delete…"), "another program's run is only looked at");
        click(&mut window, Role::CheckBox, "Compare");
    }
    assert!(says(&window, "TRL") && says(&window, "mlx-lm"));
    click(&mut window, Role::Button, "Compare");
    for plot in ["Training loss, smoothed", "Loss on held-out rows"] {
        until(&mut window, plot, |w| there(w, Role::Image, plot));
    }
    for name in ["Do not compare trl", "Do not compare mlx"] {
        get(&window, Role::Button, name);
    }
    // mlx-lm tells 5.987, the last of its six; TRL twelve.
    until(&mut window, "both tables", |w| there(w, Role::Row, "trl") && there(w, Role::Row, "mlx"));
}

#[test]
fn a_run_of_another_program_is_filmed_and_opened_in_spectrum() {
    let folder = tempfile::tempdir().unwrap();
    foreign(folder.path());
    let mut window = window(folder.path());
    pick(&mut window, "trl, finished");
    click(&mut window, Role::Button, "Open");
    until(&mut window, "its film", |w| step(w) == 12 && says(w, "Spectrum film"));
    assert!(says(&window, "made by TRL"));
    let module = "model.layers.0.self_attn.q_proj";
    get(&window, Role::Image, &format!("Singular values of ΔW of {module}"));
    click(&mut window, Role::Button, "Export ▾");
    click(&mut window, Role::Button, "ΔW of step 4 in Spectrum");
    until(&mut window, "ΔW of step 4", |w| {
        let (known, all) = known(w);
        known == all && all > 0 && is_quiet(w)
    });
    let adapter = Adapter::open(&folder.path().join("runs/trl/checkpoint-4")).unwrap();
    assert_eq!(adapter.layers.len(), known(&window).1);
    assert!(base(&window).ends_with("tales-2m"));
}

/// The run goes on while it is looked at: a checkpoint comes, file by file, and then its folder goes away.
#[test]
fn a_run_that_goes_on_elsewhere_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (run, late) = (folder.path().join("runs/trl"), folder.path().join("late"));
    copied(&fixture("foreign/trl"), &run);
    std::fs::remove_file(run.join("adapter_model.safetensors")).unwrap();
    std::fs::remove_dir_all(run.join("runs")).unwrap();
    std::fs::rename(run.join("checkpoint-12"), &late).unwrap();
    let mut window = window(folder.path());
    pick(&mut window, "trl, running");
    click(&mut window, Role::Button, "Open");
    until(&mut window, "eight steps", |w| step(w) == 8 && says(w, "Spectrum film"));
    assert!(says(&window, "running in another program"));
    let new = run.join("checkpoint-12");
    std::fs::create_dir(&new).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors", "trainer_state.json"] {
        let bytes = std::fs::read(late.join(name)).unwrap();
        std::fs::write(new.join(name), &bytes[..bytes.len() / 2]).unwrap();
        // Longer than a look: it sees half a file.
        std::thread::sleep(Duration::from_millis(350));
        window.step();
        std::fs::write(new.join(name), &bytes).unwrap();
    }
    until(&mut window, "the new checkpoint", |w| step(w) == 12 && says(w, "Step 12 is too early"));
    std::fs::remove_dir_all(&run).unwrap();
    until(&mut window, "the note", |w| says(w, "what was read of it stays"));
    assert!(step(&window) == 12 && says(&window, "Spectrum film"));
}
