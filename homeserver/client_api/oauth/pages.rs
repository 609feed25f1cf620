//! How the pages look: plain HTML with the web client's styles and no script, in the reader's language.
//! Everything that is not ours is escaped here.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    error::Error,
    http::{Reply, reply},
};

/// Nothing but our styles; nobody may frame a page that asks for a password.
const GUARDS: [(HeaderName, HeaderValue); 7] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

/// What the pages say, in one language. `{}` stands for a name.
pub struct Words {
    code: &'static str,
    pub sign_in: &'static str,
    pub create: &'static str,
    pub wants: &'static str,
    pub wants_more: &'static str,
    pub goes_to: &'static str,
    pub name: &'static str,
    pub password: &'static str,
    pub token: &'static str,
    pub allow: &'static str,
    pub cancel: &'static str,
    pub have_account: &'static str,
    pub no_account: &'static str,
    pub link: &'static str,
    pub link_code: &'static str,
    pub next: &'static str,
    pub link_unknown: &'static str,
    pub link_done: &'static str,
    pub link_refused: &'static str,
    pub link_warning: &'static str,
    pub reset: &'static str,
    pub reset_more: &'static str,
    pub reset_done: &'static str,
    pub expired: &'static str,
    pub terms: &'static str,
    pub privacy: &'static str,
    pub wrong: &'static str,
    pub slower: &'static str,
    pub problem: &'static str,
}

static ENGLISH: Words = Words {
    code: "en",
    sign_in: "Sign in",
    create: "Create account",
    wants: "{} wants to use your account",
    wants_more: "It will read and send messages in your name, as one of your sessions. You can end it at any time.",
    goes_to: "You will be sent back to {}.",
    name: "Name",
    password: "Password",
    token: "Registration token",
    allow: "Sign in and allow",
    cancel: "Cancel",
    have_account: "I have an account",
    no_account: "Create an account",
    link: "Link a device",
    link_code: "The code that the other device shows",
    next: "Next",
    link_unknown: "There is no such code, or it has ended. Look at the other device again.",
    link_done: "Done. Go on at your other device.",
    link_refused: "Refused. Nothing was given away.",
    link_warning: "Go on only if you began this yourself, at a device before you.",
    reset: "Reset your identity",
    reset_more: "An app of yours wants to replace the keys by which others know that it is you. Go on only if you asked it to.",
    reset_done: "Confirmed. Go back to your app within ten minutes.",
    expired: "This page has ended. Go back to the app and begin again.",
    terms: "Terms",
    privacy: "Privacy",
    wrong: "The name or the password is wrong.",
    slower: "Too many attempts. Try again later.",
    problem: "That did not work: {}",
};

static KOREAN: Words = Words {
    code: "ko",
    sign_in: "로그인",
    create: "계정 만들기",
    wants: "{}에서 내 계정을 사용하려고 합니다",
    wants_more: "내 세션의 하나로서 내 이름으로 메시지를 읽고 보냅니다. 언제든지 끝낼 수 있습니다.",
    goes_to: "그런 다음 {}(으)로 돌아갑니다.",
    name: "이름",
    password: "비밀번호",
    token: "가입 토큰",
    allow: "로그인하고 허용",
    cancel: "취소",
    have_account: "이미 계정이 있습니다",
    no_account: "새 계정 만들기",
    link: "기기 연결",
    link_code: "다른 기기에 표시된 코드",
    next: "다음",
    link_unknown: "없거나 만료된 코드입니다. 다른 기기를 다시 확인하세요.",
    link_done: "완료되었습니다. 다른 기기에서 계속하세요.",
    link_refused: "거부했습니다. 아무것도 전달되지 않았습니다.",
    link_warning: "지금 앞에 있는 기기에서 직접 시작한 경우에만 계속하세요.",
    reset: "신원 재설정",
    reset_more: "앱이 나를 확인하는 데 쓰이는 키를 바꾸려고 합니다. 직접 요청한 경우에만 계속하세요.",
    reset_done: "확인되었습니다. 10분 안에 앱으로 돌아가세요.",
    expired: "만료된 페이지입니다. 앱으로 돌아가 다시 시작하세요.",
    terms: "이용 약관",
    privacy: "개인정보 처리방침",
    wrong: "이름이나 비밀번호가 틀렸습니다.",
    slower: "시도가 너무 많습니다. 나중에 다시 하세요.",
    problem: "실패했습니다: {}",
};

impl Words {
    /// In the first of the reader's languages that there is.
    pub fn for_reader(languages: &str) -> &'static Self {
        for language in languages.split(',') {
            match language.trim().get(..2) {
                Some("ko") => return &KOREAN,
                Some("en") => return &ENGLISH,
                _ => {}
            }
        }
        &ENGLISH
    }

    /// What somebody is told who could not be let in.
    pub fn failure(&self, error: &Error) -> String {
        match error.errcode() {
            "M_FORBIDDEN" => self.wrong.to_owned(),
            "M_LIMIT_EXCEEDED" => self.slower.to_owned(),
            _ => self.problem.replace("{}", error.message()),
        }
    }
}

/// Escapes a text for HTML, also within quotes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}

/// A sentence with a name in it, escaped.
pub fn with_name(sentence: &str, name: &str) -> String {
    escape(sentence).replace("{}", &format!("<bdi>{}</bdi>", escape(name)))
}

/// A page. `title` is text, `body` is HTML that was escaped where it had to be.
pub fn page(words: &Words, status: StatusCode, title: &str, body: &str) -> Reply {
    let (code, title) = (words.code, escape(title));
    let styles: String =
        ["base", "door"].iter().map(|name| format!("<link rel=\"stylesheet\" href=\"/css/{name}.css\">")).collect();
    let text = format!(
        "<!doctype html><html lang=\"{code}\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title} · Hearth</title>\
         <link rel=\"icon\" href=\"/icon.svg\" type=\"image/svg+xml\">{styles}</head><body>\
         <main class=\"door-page\"><section class=\"door\"><header class=\"door-brand\">\
         <img class=\"mark\" src=\"/icon.svg\" alt=\"\"><h1>{title}</h1></header>{body}</section></main></body></html>"
    );
    let mut reply = Response::new(reply::full(text));
    *reply.status_mut() = status;
    for (name, value) in GUARDS {
        reply.headers_mut().insert(name, value);
    }
    reply
}

/// A page that only says something.
pub fn note(words: &Words, status: StatusCode, title: &str, text: &str) -> Reply {
    page(words, status, title, &format!("<p class=\"door-note\" role=\"status\">{}</p>", escape(text)))
}

/// A form that is sent to a path of ours.
pub struct Asking<'a> {
    /// Where it goes.
    pub action: &'a str,
    /// Names and values that go along.
    pub hidden: &'a [(&'a str, &'a str)],
    /// What went wrong the last time.
    pub problem: Option<String>,
    /// The fields, as HTML.
    pub fields: String,
    /// The name of the button that goes on; the other one cancels.
    pub go_on: &'a str,
}

impl Asking<'_> {
    /// The HTML.
    pub fn html(&self, words: &Words) -> String {
        let hidden: String = self
            .hidden
            .iter()
            .map(|(name, value)| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value)))
            .collect();
        let problem = self.problem.as_ref().map_or_else(String::new, |problem| {
            format!(
                "<div class=\"problem-place\" role=\"alert\"><p class=\"problem\"><span>{}</span></p></div>",
                escape(problem)
            )
        });
        // The first button is the one that the Enter key presses; the styles put it last.
        format!(
            "<form class=\"form\" method=\"post\" action=\"{}\">{hidden}{}{problem}<footer class=\"backwards\">\
             <button class=\"button primary\" type=\"submit\" name=\"decision\" value=\"allow\">{}</button>\
             <button class=\"button\" type=\"submit\" name=\"decision\" value=\"cancel\" formnovalidate>{}</button>\
             </footer></form>",
            self.action,
            self.fields,
            escape(self.go_on),
            escape(words.cancel)
        )
    }
}

/// A labelled field. `more` are further attributes.
pub fn field(name: &str, label: &str, kind: &str, more: &str) -> String {
    let label = escape(label);
    format!(
        "<div class=\"field\"><label for=\"{name}\">{label}</label>\
         <input id=\"{name}\" name=\"{name}\" type=\"{kind}\" required {more}></div>"
    )
}

/// The fields by which somebody says who they are.
pub fn credentials(words: &Words, name: Option<&str>) -> String {
    let value = name.map_or_else(String::new, |name| format!("value=\"{}\"", escape(name)));
    let plain = "autocapitalize=\"none\" spellcheck=\"false\"";
    field("name", words.name, "text", &format!("autocomplete=\"username\" {plain} {value}"))
        + &field("password", words.password, "password", "autocomplete=\"current-password\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_no_markup() {
        assert_eq!(escape("<a b='\"&>"), "&lt;a b=&#39;&quot;&amp;&gt;");
        assert_eq!(with_name("{} & co", "<b>"), "<bdi>&lt;b&gt;</bdi> &amp; co");
        assert_eq!(Words::for_reader("de, ko-KR;q=0.8, en").code, "ko");
        assert_eq!(Words::for_reader("é, fr").code, "en");
    }
}
