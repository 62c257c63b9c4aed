"""What is looked for when no provider is configured."""

from services.llm.providers.discovery import KEY_VARIABLES, local_engines, vendors
from services.llm.providers.entries import BASE_URLS, Address, Entry
from services.runtime.config import Settings


def test_a_vendor_is_found_by_the_variable_of_its_own_sdk() -> None:
    assert vendors({"OPENAI_API_KEY": "sk-1", "GROQ_API_KEY": "", "PATH": "/bin"}) == [
        Entry("openai", "openai", (Address("https://api.openai.com/v1"),), "sk-1")
    ]


def test_every_vendor_has_an_address() -> None:
    found = vendors(dict.fromkeys(KEY_VARIABLES, "key"))
    assert [each.type for each in found] == list(KEY_VARIABLES.values())
    assert all(each.addresses[0].url == BASE_URLS[each.type] != "" for each in found)


def test_local_engines_are_looked_for_at_their_ports_after_the_default_node() -> None:
    settings = Settings(gateway_port=1, llm_api_port=2, metrics_port=3, jan_default_node_api_key="k")
    found = local_engines(settings)
    node = Entry("default-node", "jan", (Address("http://localhost:8101/v1"),), "k", discovered=True)
    assert found[0] == node
    assert {each.name: each.addresses[0].url for each in found[1:]} == {
        "ollama": "http://127.0.0.1:11434/v1",
        "lm-studio": "http://127.0.0.1:1234/v1",
        "jan": "http://127.0.0.1:1337/v1",
        "llama.cpp": "http://127.0.0.1:8080/v1",
        "vllm": "http://127.0.0.1:8000/v1",
    }


def test_the_server_does_not_take_itself_for_an_engine() -> None:
    settings = Settings(gateway_port=8000, llm_api_port=8080)
    assert {"vllm", "llama.cpp"} & {each.name for each in local_engines(settings)} == set()
