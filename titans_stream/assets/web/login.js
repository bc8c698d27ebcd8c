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
    const back = new URLSearchParams(location.search).get("back") || "/";
    // only a path of this server
    location.replace(back.startsWith("/") && !back.startsWith("//") && !back.includes("\\") ? back : "/");
    return;
  }
  problem.textContent = answer.status === 403 ? "That is not the token." : `Refused (${answer.status}).`;
});
