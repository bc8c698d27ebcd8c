const form = document.getElementById("login");
const problem = document.getElementById("problem");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.textContent = "";
  const answer = await fetch("/login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token: document.getElementById("token").value }),
  });
  if (answer.ok) {
    location.replace(back());
    return;
  }
  problem.textContent = answer.status === 403 ? "That is not the token." : `Refused (${answer.status}).`;
});

/** Where to go on: an address of this very server, as the browser reads it. */
function back() {
  try {
    const given = new URL(new URLSearchParams(location.search).get("back") || "/", location.origin);
    return given.origin === location.origin ? given.href : "/";
  } catch {
    return "/";
  }
}
