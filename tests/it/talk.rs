//! A base and what was made of it, asked the same.

use rankscope::demo;
use rankscope::device::Choice;
use rankscope::model::Frozen;
use rankscope::train::run::{self, Start};
use rankscope::train::talk::{News, Question, Side, Talk, Tuned};

fn answers(talk: &mut Talk, sides: &[Side], question: &Question) -> Vec<String> {
    let mut texts = vec![String::new(); sides.len()];
    let mut ended = Vec::new();
    let mut take = |news| match news {
        News::Begins(_) => {}
        News::Text(at, text) => {
            assert!(text.len() >= texts[at].len(), "an answer grows");
            texts[at] = text;
        }
        News::Ends(at, tokens, seconds) => {
            assert!(tokens <= question.most && seconds >= 0.0);
            ended.push(at);
        }
    };
    talk.answer_each(sides, question, Choice::Cpu, &(), &mut take).unwrap();
    assert_eq!(ended, (0..sides.len()).collect::<Vec<_>>());
    texts
}

#[test]
fn base_and_tuned_answer_side_by_side() {
    let home = tempfile::tempdir().unwrap();
    let sample = demo::sample(home.path(), &()).unwrap();
    let set = &sample.sets[0];
    let out = home.path().join("run");
    let mut settings = sample.run(set, &out);
    (settings.steps, settings.batch, settings.eval_every) = (Some(4), 2, 0);
    (settings.eval_data, settings.prompts, settings.device) = (None, Vec::new(), Choice::Cpu);
    run::run(settings.clone(), Start::default(), &(), &mut |_| Ok(())).unwrap();
    let sides = Side::of_run(&out).unwrap();
    assert_eq!(sides[1].tuned, Some(Tuned::Adapter(out)));
    let prompt = set.prompts[0].clone();
    let question = Question { prompt, chat: false, most: 12, temperature: 0.0, seed: 0 };
    let mut talk = Talk::default();
    let both = answers(&mut talk, &sides, &question);
    // Through the adapter's decoder or alone, the base says the same; and the second time as the first.
    let mut alone = Talk::default();
    assert_eq!(answers(&mut alone, &sides[..1], &question)[0], both[0]);
    assert_eq!(answers(&mut talk, &sides, &question), both);
    // At a temperature the seed decides.
    let warm = Question { temperature: 1.5, seed: 7, ..question.clone() };
    assert_eq!(answers(&mut talk, &sides, &warm), answers(&mut alone, &sides, &warm));
    assert_ne!(answers(&mut talk, &sides, &warm), both);
    // A model that was tuned whole is read by itself.
    let tuned = Side { tuned: Some(Tuned::Model(sample.tuned)), ..sides[0].clone() };
    let pair = [Side { frozen: Frozen::AsStored, ..sides[0].clone() }, tuned];
    let texts = answers(&mut talk, &pair, &question);
    assert_ne!(texts[0], texts[1]);
    let chat = Question { chat: true, ..question };
    let error = talk.answer_each(&sides, &chat, Choice::Cpu, &(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("chat template"), "{error}");
}
