//! [`loading`]: the lines of Python that load what a run has made.

use super::Method;
use std::path::Path;

/// Lines that load the result in `folder` with transformers, and PEFT where it is an adapter, and continue a prompt.
pub fn loading(method: Method, base: &Path, folder: &Path, prompt: &str) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let path = |path: &Path| text(&path.display().to_string());
    let (base, folder, prompt) = (path(base), path(folder), text(prompt));
    let rest = format!(
        "inputs = tokenizer({prompt}, return_tensors=\"pt\")\n\
         print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0]))\n"
    );
    match method {
        Method::Full => format!(
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
             model = AutoModelForCausalLM.from_pretrained({folder}, dtype=\"auto\")\n\
             tokenizer = AutoTokenizer.from_pretrained({folder})\n{rest}"
        ),
        Method::Lora | Method::Qlora => format!(
            "from peft import AutoPeftModelForCausalLM\n\
             from transformers import AutoTokenizer\n\n\
             model = AutoPeftModelForCausalLM.from_pretrained({folder}, dtype=\"auto\")\n\
             tokenizer = AutoTokenizer.from_pretrained({base})\n{rest}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_lines_and_quoted_paths() {
        for method in [Method::Lora, Method::Qlora, Method::Full] {
            let lines = loading(method, Path::new("/m/my \"base\""), Path::new("C:\\runs\\a"), "He said:\n");
            assert!(lines.lines().filter(|line| !line.is_empty()).count() <= 6, "{lines}");
            assert!(lines.contains(r#""C:\\runs\\a""#) && lines.contains(r#""He said:\n""#), "{lines}");
            assert_eq!(lines.contains(r#""/m/my \"base\"""#), method != Method::Full, "{lines}");
        }
    }
}
