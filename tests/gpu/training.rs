//! Whole steps: against `qlora/run.json` (torch 2.15, peft 0.21, bitsandbytes 0.50) and against the processor.

use super::{MORE, fixtures, folders, machines};
use crate::support::{Reference, reference};
use rankscope::checkpoint::Checkpoint;
use rankscope::model::ComputeDtype;
use rankscope::model::gpu::{Gpu, Machine, Model};
use rankscope::train::{Method, Row, Rows, Settings, Trainer, memory};
use std::sync::Arc;

fn on_processor(settings: Settings) -> Trainer {
    let checkpoint = Checkpoint::open(&fixtures().join("llama")).unwrap();
    Trainer::new(&checkpoint, settings, reference().rows, &()).unwrap()
}

fn onto(trainer: &mut Trainer, machine: &Arc<dyn Machine>, dtype: ComputeDtype) {
    let model = Model::new(Gpu::new(Arc::clone(machine), dtype), &trainer.decoder).unwrap();
    trainer.onto(Box::new(model)).unwrap();
}

fn trainer(machine: &Arc<dyn Machine>, settings: Settings, dtype: ComputeDtype) -> Trainer {
    let mut trainer = on_processor(settings);
    onto(&mut trainer, machine, dtype);
    trainer
}

#[test]
fn thirty_steps_are_those_of_peft_and_bitsandbytes() {
    for machine in machines() {
        for (dtype, off, norm_off) in [(ComputeDtype::F32, 5e-3, 0.01), (ComputeDtype::Bf16, 0.04, 0.03)] {
            let Reference { run, settings, .. } = reference();
            let mut trainer = trainer(&machine, Settings { checkpointing: true, ..settings }, dtype);
            let expected = |key: &str, at: usize| run[key][at].as_f64().unwrap();
            let (mut worst, mut worst_norm) = (0f64, 0f64);
            for at in 0..30 {
                let step = trainer.step().unwrap();
                let (loss, norm) = (expected("loss", at), expected("grad_norm", at));
                worst = worst.max((step.loss - loss).abs());
                worst_norm = worst_norm.max((step.grad_norm / norm - 1.0).abs());
                assert!(worst < off, "{dtype:?} step {at}: loss {} against {loss}", step.loss);
                assert!(worst_norm < norm_off, "{dtype:?} step {at}: norm {} against {norm}", step.grad_norm);
            }
            let (name, dtype, percent) = (machine.name(), dtype.name(), 100.0 * worst_norm);
            println!("{name} in {dtype}: losses within {worst:.1e}, norms within {percent:.2} %");
        }
    }
}

#[test]
fn every_method_learns_as_on_the_processor() {
    for machine in machines() {
        for method in [Method::Full, Method::Lora, Method::Qlora] {
            let settings =
                Settings { method, init_adapter: None, lr: 5e-3, accumulate: 2, batch: 2, ..reference().settings };
            let mut expected = on_processor(settings.clone());
            let expected: Vec<f64> = (0..6).map(|_| expected.step().unwrap().loss).collect();
            for (dtype, off) in [(ComputeDtype::F32, 1e-3), (ComputeDtype::Bf16, 0.05)] {
                let mut trainer = trainer(&machine, settings.clone(), dtype);
                for (at, expected) in expected.iter().enumerate() {
                    let loss = trainer.step().unwrap().loss;
                    assert!((loss - expected).abs() < off, "{method:?} {dtype:?} step {at}: {loss} against {expected}");
                }
                let held_out = trainer.evaluate(&reference().rows, &()).unwrap();
                assert!(held_out.mean() < expected[0], "{method:?} {dtype:?}: {}", held_out.mean());
            }
        }
    }
}

#[test]
fn a_stopped_run_goes_on_as_if_it_never_stopped() {
    let settings = Settings { dropout: 0.1, shuffle: true, accumulate: 2, batch: 2, ..reference().settings };
    for machine in machines() {
        let mut whole = trainer(&machine, settings.clone(), ComputeDtype::Bf16);
        let losses: Vec<f64> = (0..6).map(|_| whole.step().unwrap().loss).collect();
        let mut first = trainer(&machine, settings.clone(), ComputeDtype::Bf16);
        (0..3).for_each(|_| assert!(first.step().is_ok()));
        first.gather().unwrap();
        let mut second = on_processor(settings.clone());
        second.decoder.params = first.decoder.params.clone();
        (second.optimizer, second.done) = (first.optimizer.clone(), first.done);
        onto(&mut second, &machine, ComputeDtype::Bf16);
        let rest: Vec<f64> = (0..3).map(|_| second.step().unwrap().loss).collect();
        // To the bit: nothing depends on which thread or group is first.
        assert_eq!(rest, losses[3..]);
    }
}

#[test]
fn a_run_that_diverges_says_where_and_changes_nothing() {
    for machine in machines() {
        let settings = Settings { init_adapter: None, lr: 1e30, warmup: 0, max_grad_norm: 0.0, ..reference().settings };
        let mut trainer = trainer(&machine, settings, ComputeDtype::F32);
        let error = (0..9).find_map(|_| trainer.step().err()).unwrap().to_string();
        assert!(error.contains("diverged at step") && error.contains("first in"), "{error}");
        let before: Vec<Vec<f32>> = trainer.decoder.params.list.iter().map(|param| param.value.clone()).collect();
        trainer.gather().unwrap();
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for (before, param) in before.iter().zip(&trainer.decoder.params.list) {
            assert_eq!(bits(before), bits(&param.value));
        }
    }
}

#[test]
fn the_memory_in_use_is_what_was_predicted() {
    // Tensors of these are so small that their beginnings at multiples of 256 bytes count, and rows of experts are not spread evenly.
    let more = MORE.iter().map(|name| (fixtures().join("families").join(name), 0.1));
    for (folder, off) in folders().into_iter().map(|(folder, _)| (folder, 0.03)).chain(more) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let small = off > 0.05;
        let id = |row: usize, at: usize| ((row * 31 + at * 7) % if small { 60 } else { 250 } + 3) as u32;
        let rows =
            |count: usize| Rows { rows: (0..count).map(|r| Row::all((0..48).map(|at| id(r, at)).collect())).collect() };
        for machine in machines() {
            for (method, checkpointing, dropout, dtype) in [
                (Method::Qlora, false, 0.0, ComputeDtype::Bf16),
                (Method::Qlora, true, 0.1, ComputeDtype::Bf16),
                (Method::Lora, false, 0.1, ComputeDtype::F32),
                (Method::Full, true, 0.0, ComputeDtype::Bf16),
            ] {
                let targets = "all-linear".to_owned();
                // There is none of what adapts experts.
                let dropout = if small { 0.0 } else { dropout };
                let settings =
                    Settings { method, checkpointing, dropout, targets, batch: 4, seq: 48, ..Settings::default() };
                let formats = machine.formats(dtype);
                let predicted = memory::predict_for(&checkpoint, &settings, 48, Some(formats)).unwrap();
                let mut trainer = Trainer::new(&checkpoint, settings, rows(4), &()).unwrap();
                onto(&mut trainer, &machine, dtype);
                trainer.step().unwrap();
                // Every tensor begins at a multiple of 256 bytes: that is what is not predicted.
                let (found, predicted) =
                    (trainer.held_bytes() as f64, (predicted.total() - memory::context(&formats)) as f64);
                let what = format!("{name}, {} in {}, checkpointing {checkpointing}", method.as_str(), dtype.name());
                println!("{what}: {found} bytes in use, {predicted} predicted");
                assert!((predicted / found - 1.0).abs() < off, "{what}: {found} in use, {predicted} predicted");
            }
        }
    }
}
