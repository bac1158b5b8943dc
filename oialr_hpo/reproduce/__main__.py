from oialr_hpo.reproduce import main

if __name__ == "__main__":
    main()
