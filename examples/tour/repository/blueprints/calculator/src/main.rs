//! `calculator EXPRESSION`: shows how an expression is read, and its value.

use error::Error;

fn calculate(text: &str) -> Result<String, Error> {
    let tree = parser::parse(&lexer::tokens(text)?)?;
    Ok(format!("{} = {}", printer::text(&tree), evaluator::value(&tree)?))
}

fn main() {
    let text = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    match calculate(&text) {
        Ok(line) => println!("{line}"),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}

#[test]
fn an_expression_goes_all_the_way() {
    assert_eq!(calculate("2 * (3 + 4)").unwrap(), "(2 * (3 + 4)) = 14");
    assert_eq!(calculate("1 / 0"), Err(Error::DivisionByZero));
}
