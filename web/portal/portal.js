"use strict";

// The pages work without this script; it makes a few things quicker.

// A form that issues a certificate is sent once.
for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", () => {
    const button = form.querySelector("button[type=submit]");
    button.disabled = true;
    button.textContent = "Issuing…";
  });
}

// After a failed submit the reader starts at the list of errors.
const summary = document.getElementById("summary");
if (summary) summary.focus();

for (const button of document.querySelectorAll("[data-print]")) {
  button.addEventListener("click", () => window.print());
}
