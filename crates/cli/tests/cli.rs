//! Transcripts of what needs no running process: help, usage errors, exit codes, keys and configurations looked at.

#[test]
fn transcripts() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd");
}
